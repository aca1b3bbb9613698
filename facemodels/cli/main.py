"""facemodels COMMAND: one line a command here; each module adds its own arguments and does the work."""

import argparse
import importlib
import os
import sys

from facemodels.core.errors import InputError

# name -> (module, one line of help). The module has configure(parser) and run(options) -> exit code.
COMMANDS = {
    "reconstruct": ("facemodels.cli.reconstruct", "reconstruct the faces of photographs, folders and videos"),
    "fit": ("facemodels.cli.fit", "fit a model to a photo with landmarks, or to a mesh or scan"),
    "transfer": ("facemodels.cli.transfer", "carry identity and expression from one model to another"),
    "convert": ("facemodels.cli.convert", "convert a model file to .safetensors"),
    "sheet": ("facemodels.cli.sheet", "render a sheet of random faces of a model, and an HTML viewer"),
    "train": ("facemodels.cli.train", "train a method"),
    "evaluate": ("facemodels.cli.evaluate", "score a trained method on a benchmark"),
    "doctor": (
        "facemodels.cli.doctor",
        "what is installed, which models and data are here, and where to get the others",
    ),
}

# Packages of the extra "models", by the name under which they are imported: facemodels needs them, facerender does not.
EXTRA_MODELS = ("scipy", "imageio", "PIL", "safetensors", "trimesh", "tqdm")


def missing_extra(command: str, error: ModuleNotFoundError) -> int:
    """Print what to install where a package of the extra "models" is missing, and return the exit code 1.

    Raises:
        ModuleNotFoundError: the error itself, if it is about anything else.
    """
    if (error.name or "").split(".")[0] not in EXTRA_MODELS:
        raise error
    print(
        f"facemodels {command}: the package {error.name} is not installed; run: pip install 'facerender[models]', "
        "or 'facerender[photos]' for photos and videos",
        file=sys.stderr,
    )
    return 1


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="facemodels", description="Morphable face models and 3D face reconstruction.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    for name, (module, line) in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=line,
            description=line[0].upper() + line[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name in arguments[:1]:  # only the command that is asked for is imported
            try:
                loaded = importlib.import_module(module)
            except ModuleNotFoundError as error:
                return missing_extra(name, error)
            loaded.configure(command)
            command.set_defaults(run=loaded.run)
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except BrokenPipeError:  # whoever read the output has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (InputError, OSError) as error:
        print(f"facemodels {options.command}: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        return missing_extra(options.command, error)
    except KeyboardInterrupt:
        print(f"facemodels {options.command}: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
