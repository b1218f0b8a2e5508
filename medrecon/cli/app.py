"""The command `medrecon`: its subcommands, and the way from an exception to an exit code.

Exit codes: 0 ok, 1 failure while running, 2 usage or configuration, 3 bad input, 4 missing optional dependency,
5 some cases of a batch failed, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import signal
import sys
import traceback
from types import FrameType
from typing import Annotated, NoReturn

import typer

from medrecon import __version__
from medrecon.cli import console, demo, files, inspection, recon, rerun, simulate, training, viewing
from medrecon.cli.failures import said_of
from medrecon.errors import MedreconError

app = typer.Typer(
    name="medrecon",
    help="Volumes from too little CT, MRI or seismic data: pretrained 2D diffusion priors held to the data by the "
    "physics of the scanner. For research use only.",
    epilog="Start with: medrecon demo ct -o demo-output",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: quicker, and brackets in texts stay
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"medrecon {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr. May stand anywhere.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks. May stand anywhere.")] = False,
) -> None:
    """Options before the command. `main` has taken --quiet and --debug out already: they may stand anywhere."""


for _module in (demo, simulate, recon, rerun, files, inspection, viewing, training):
    _module.register(app)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run one command and exit.

    Every `MedreconError` becomes its message on stderr and its exit code. Anything else is a defect of this package:
    one line, what to do, and exit code 1. ``--debug`` shows the traceback of both.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    head, tail = _split_at_double_dash(arguments)
    debug = "--debug" in head
    console.set_up_logging(quiet="--quiet" in head or "-q" in head)
    arguments = [word for word in head if word not in ("--debug", "--quiet", "-q")] + tail
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app(arguments, prog_name="medrecon")
    except MedreconError as error:
        _fail(said_of(error), error.exit_code, debug)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of stdout went away: nobody is left to tell
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - the last border before the user
        _fail(said_of(error), 1, debug)
    sys.exit(0)


def _fail(message: str, code: int, debug: bool) -> NoReturn:
    if debug:
        traceback.print_exc()
    console.say(f"medrecon: {message}")
    sys.exit(code)


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    """Leave through the ordinary way out, so that temporary files go."""
    sys.exit(128 + signum)


def _split_at_double_dash(arguments: list[str]) -> tuple[list[str], list[str]]:
    place = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:place], arguments[place:]
