"""From a trained model to a version that TF Serving loads, and back: export, load, verify."""

from tfrankloss.serving.config import write_model_config
from tfrankloss.serving.export import ExportResult, export
from tfrankloss.serving.index import CandidateIndex
from tfrankloss.serving.servable import Servable, load, signatures
from tfrankloss.serving.signature import Alias
from tfrankloss.serving.verify import verify
from tfrankloss.serving.versions import clean_staging, keep_newest, rollback

__all__ = [
    "Alias",
    "CandidateIndex",
    "ExportResult",
    "Servable",
    "clean_staging",
    "export",
    "keep_newest",
    "load",
    "rollback",
    "signatures",
    "verify",
    "write_model_config",
]
