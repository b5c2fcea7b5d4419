"""The command line: arguments → config → call; no logic."""


def main() -> None:
    """Run `lightmatch`; exit code 1 and one sentence for what the user can mend."""
    from lightmatch.cli.app import run

    run()
