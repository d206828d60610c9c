"""The command line: what an export holds, whether it answers, and what TF Serving would say.

python -m tfrankloss.serving show saved_models/movies
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfrankloss.serving import manifest, publish, rest, servable, versions
from tfrankloss.serving.config import write_model_config
from tfrankloss.serving.verify import verify

_EXAMPLES = """examples:
  python -m tfrankloss.serving show saved_models/movies
      the versions, and what the newest can be asked
  python -m tfrankloss.serving verify saved_models/movies/3
      files against the manifest, recorded requests against their recorded answers
  python -m tfrankloss.serving query saved_models/movies '[{"user_id": "42"}]'
      rows, as TF Serving's REST API takes and answers them
  python -m tfrankloss.serving query saved_models/movies --signature score @request.json
      a request from a file; - reads it from standard input
  python -m tfrankloss.serving clean saved_models/movies --keep 3
      removes what killed exporters left, and all but the newest three versions
  python -m tfrankloss.serving config movies=/models/movies --versions movies=3,4 --label movies:canary=4
      the text for --model_config_file of TF Serving
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 if all is well, 1 if not, 2 for a wrong command line."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        return arguments.run(arguments)
    except BrokenPipeError:
        # Whoever reads has had enough, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, ValueError, TypeError) as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tfrankloss.serving",
        description="Look at, check and ask exported models, and prepare them for TF Serving.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(run: Any, text: str, path: str | None) -> argparse.ArgumentParser:
        name = run.__name__.lstrip("_")
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.set_defaults(run=run)
        if path:
            command.add_argument("path", metavar="PATH", help=path)
        return command

    base_or_version = "a base folder, of which the newest version is taken, or a version folder"
    add(_show, "the versions of a base folder, and the signatures of a version", base_or_version)
    add(_verify, "check files against the manifest, and ask recorded requests again", base_or_version)
    query = add(_query, "ask, in the JSON of TF Serving's REST API, and print what it would answer", base_or_version)
    query.add_argument("request", help="JSON: a list of rows, or an object with instances or inputs; @FILE; or -")
    query.add_argument("--signature", default="serving_default", help="default: %(default)s")
    clean = add(_clean, "remove what killed exporters left", "a base folder")
    clean.add_argument("--keep", type=int, metavar="N", help="also remove all versions but the newest N")
    config = add(_config, "write or print the text for --model_config_file of TF Serving", None)
    config.add_argument(
        "models", nargs="+", metavar="NAME=PATH", help="a model and its base path, as the server sees it"
    )
    config.add_argument(
        "--versions",
        action="append",
        default=[],
        metavar="NAME=WHICH",
        help="which versions are served: 3,4 for these, latest:2 for the newest two, or all; default: the newest",
    )
    config.add_argument(
        "--label", action="append", default=[], metavar="NAME:LABEL=VERSION", help="a name for a version"
    )
    config.add_argument("--output", type=Path, metavar="FILE", help="replaced at once; default: standard output")
    return parser


def _show(arguments: argparse.Namespace) -> int:
    folder = servable.version_folder(arguments.path)
    if folder != Path(arguments.path):
        rows = [
            [str(row["version"]), _bytes(row["size_bytes"]), *_made_by(row["made_by"])]
            for row in versions.describe(arguments.path)
        ]
        _table(["version", "size", "tfrankloss", "tensorflow", "keras"], rows)
        print()
    print(f"{folder}, {_bytes(publish.size_bytes(folder))}")
    rows = []
    for name, found in servable.signatures(folder).items():
        specs = [(side[:-1], spec) for side in ("inputs", "outputs") for spec in found[side].values()]
        for place, (side, spec) in enumerate(specs):
            shape = ", ".join("?" if axis is None else str(axis) for axis in spec.shape)
            rows.append(["" if place else name, side, spec.name, spec.dtype.name, f"({shape})"])
    _table(["signature", "", "name", "type", "shape"], rows)
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    folder = servable.version_folder(arguments.path)
    report = verify(folder)
    files = manifest.read(folder)
    print(
        f"{folder}: {'no manifest' if files is None else str(len(files['files'])) + ' files are those of the manifest'}"
    )
    rows = [
        [name, str(int(row["requests"])), f"{row['largest_difference']:.1e}" if row["requests"] else ""]
        for name, row in report.items()
    ]
    _table(["signature", "recorded requests", "largest difference"], rows)
    if not any(row["requests"] for row in report.values()):
        print("It loads; nothing is recorded that could be asked.")
    return 0


def _query(arguments: argparse.Namespace) -> int:
    text = arguments.request
    if text == "-":
        text = sys.stdin.read()
    elif text.startswith("@"):
        text = Path(text[1:]).read_text()
    with servable.load(arguments.path) as opened:
        try:
            answer = rest.predict(opened, json.loads(text), arguments.signature)
        except (ValueError, TypeError) as fault:
            # As TF Serving answers a bad request.
            print(rest.dumps({"error": str(fault)}))
            return 1
    print(rest.dumps(answer))
    return 0


def _clean(arguments: argparse.Namespace) -> int:
    print(f"removed of killed exporters: {', '.join(versions.clean_staging(arguments.path)) or 'nothing'}")
    if arguments.keep is not None:
        removed = versions.keep_newest(arguments.path, arguments.keep)
        print(f"removed versions: {', '.join(map(str, removed)) or 'none'}")
    return 0


def _config(arguments: argparse.Namespace) -> int:
    models = dict(_split(text, "=", "NAME=PATH") for text in arguments.models)
    served = {name: _which(text) for name, text in (_split(one, "=", "NAME=WHICH") for one in arguments.versions)}
    labels: dict[str, dict[str, int]] = {}
    for text in arguments.label:
        key, version = _split(text, "=", "NAME:LABEL=VERSION")
        name, label = _split(key, ":", "NAME:LABEL=VERSION")
        labels.setdefault(name, {})[label] = _number(version)
    if arguments.output is not None:
        write_model_config(arguments.output, models, versions=served, labels=labels)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        print(write_model_config(Path(folder) / "models.config", models, versions=served, labels=labels), end="")
    return 0


def _split(text: str, by: str, form: str) -> tuple[str, str]:
    first, found, second = text.rpartition(by)
    if not (first and found and second):
        raise ValueError(f"`{form}` must have this form. Received: {text!r}")
    return first, second


def _which(text: str) -> Any:
    if text in ("all", "latest"):
        return text
    if text.startswith("latest:"):
        return _number(text.removeprefix("latest:"))
    return [_number(part) for part in text.split(",")]


def _number(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"Versions must be numbers. Received: {text!r}")
    return int(text)


def _made_by(made: Any) -> list[str]:
    return [made.get(name, "") for name in ("tfrankloss", "tensorflow", "keras")]


def _bytes(size: Any) -> str:
    for unit, limit in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= limit:
            return f"{size / limit:.1f} {unit}"
    return f"{size} B"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(line[column]) for line in [header, *rows]) for column in range(len(header))]
    lines = [header, ["-" * width for width in widths], *rows]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


if __name__ == "__main__":
    sys.exit(main())
