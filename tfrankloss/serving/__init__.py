"""From a trained model to a version that TF Serving loads, and back: export, load, verify."""

from tfrankloss.serving.export import ExportResult, export
from tfrankloss.serving.index import CandidateIndex
from tfrankloss.serving.servable import Servable, load
from tfrankloss.serving.verify import verify

__all__ = ["CandidateIndex", "ExportResult", "Servable", "export", "load", "verify"]
