"""docs/serving.md, and the code on it."""

import functools
import re
import types
from pathlib import Path

from tfrankloss import serving

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "serving.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


def run(title, model, base, index=None, **arguments):
    """Run the block of code that begins with a title; ``arguments`` go to `export` besides those on the page."""
    (code,) = [block for block in CODE if block.startswith(f"# {title}\n")]
    given = types.SimpleNamespace(Alias=serving.Alias, export=functools.partial(serving.export, **arguments))
    exec(code, {"serving": given, "model": model, "base": base, "index": index})
