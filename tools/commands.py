"""Write every command with its flags into a Markdown page: ``python -m tools.commands PAGE``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from vae_lib.cli.commands import COMMANDS
from vae_lib.cli.flags import main_parser, resuming_parser, training_parser
from vae_lib.files import write_atomically

HEAD = """# Commands

Every command with its flags, as `--help` has them; [the reference](reference.md) explains what they are for.
"""


def page() -> str:
    """The whole page."""
    main_one = main_parser(COMMANDS, "vae")
    (commands,) = (action for action in main_one._actions if isinstance(action, argparse._SubParsersAction))
    lines = [HEAD, "| command | what it does |\n| --- | --- |"]
    lines += [f"| `vae {action.dest}` | {action.help} |" for action in commands._choices_actions]
    lines += ["", *_section(training_parser(), "train_VAE.py")]
    lines += _section(resuming_parser(), "train_VAE.py --resume RUN")
    for name, parser in commands.choices.items():
        lines += _section(parser, f"vae {name}")
    return "\n".join(lines)


def _section(parser: argparse.ArgumentParser, title: str) -> Iterator[str]:
    yield f"## {title}\n\n{parser.description}\n"
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.dest != "help"]
        if actions:
            yield f"| {group.title} | default | meaning |\n| --- | --- | --- |"
            for action in actions:
                names = ", ".join(action.option_strings) or action.metavar or action.dest
                value = action.metavar if isinstance(action.metavar, str) else " ".join(action.metavar or ())
                shown = f"`{names} {value}`" if action.option_strings and value else f"`{names}`"
                default = "required" if action.required else "" if action.default is None else f"`{action.default}`"
                yield f"| {shown} | {default} | {action.help} |"
            yield ""


def main() -> None:
    write_atomically(Path(sys.argv[1]), page().encode())


if __name__ == "__main__":
    main()
