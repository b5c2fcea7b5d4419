"""Progress that keeps what it announces."""

from lightmatch.pipelines.progress import Progress


class ToldProgress(Progress):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def announce(self, what: str) -> None:
        self.said.append(what)
