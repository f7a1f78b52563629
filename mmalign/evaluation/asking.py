"""Many questions, each asked once, some at a time; every answer is on disk before it counts."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TextIO, TypeVar

from rich.console import Console
from rich.progress import Progress

from mmalign.errors import MediaError, MissingPredictionsError, ModelCallError, StoreError
from mmalign.evaluation.answers import AnswerFile, Key
from mmalign.evaluation.predictions import Prediction
from mmalign.records import Sample

__all__ = ["Asker", "Question"]

PredictionT = TypeVar("PredictionT", bound=Prediction)

_SHOWN = 5


class Question(NamedTuple):
    """A sample, and which of its draws is asked for."""

    sample: Sample
    draw: int = 0

    @property
    def key(self) -> Key:
        """How files name it."""
        return self.sample.id, self.draw

    @property
    def label(self) -> str:
        """How messages name it."""
        return f"{self.sample.id} (draw {self.draw})" if self.draw else self.sample.id


@dataclass(frozen=True)
class Asker:
    """How questions are asked."""

    max_concurrency: int
    allow_missing: bool
    console: Console | None

    async def all(
        self,
        questions: Sequence[Question],
        answer: Callable[[Question], Awaitable[PredictionT]],
        answers: AnswerFile[PredictionT],
        stands: Callable[[PredictionT], bool] = lambda _: True,
    ) -> tuple[dict[Key, PredictionT], dict[str, str]]:
        """All answers, those of earlier starts too; what could not be asked, with the reason.

        Args:
            questions: None comes twice.
            answer: Answers one.
            answers: Where answers are kept.
            stands: Whether an answer of an earlier start is still good.

        Raises:
            MissingPredictionsError: Some could not be asked, and none may be missing.
            StoreError: The file cannot be written.
        """
        keys = [question.key for question in questions]
        known = {key for key, line in answers.read(keys).items() if stands(line)}
        todo = [question for question in questions if question.key not in known]
        errors: dict[str, str] = {}
        rest = iter(todo)
        with answers.appending() as file, _progress(self.console) as progress:
            task = progress.add_task("evaluate", total=len(questions), completed=len(known))
            workers = [
                asyncio.create_task(
                    _worker(answer, rest, file, errors, lambda: progress.advance(task))
                )
                for _ in range(min(self.max_concurrency, len(todo)))
            ]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
        if errors and not self.allow_missing:
            raise _missing(errors, len(questions))
        return answers.read(keys), errors


async def _worker(
    answer: Callable[[Question], Awaitable[Prediction]],
    rest: Iterator[Question],
    file: TextIO,
    errors: dict[str, str],
    advance: Callable[[], None],
) -> None:
    for question in rest:  # shared: each question goes to one worker
        try:
            prediction = await answer(question)
        except (MediaError, ModelCallError) as error:
            errors[question.label] = f"{error.reason}: {error}"
        else:
            unsaid = {"schema_version"} | ({"draw"} if question.draw == 0 else set())
            try:
                file.write(prediction.model_dump_json(exclude=unsaid) + "\n")
                file.flush()
            except OSError as error:
                raise StoreError(f"{file.name}: cannot be written: {error.strerror}") from error
        advance()


def _progress(console: Console | None) -> Progress:
    hidden = console is None or not console.is_terminal
    return Progress(console=console, disable=hidden, transient=True)


def _missing(errors: Mapping[str, str], num_asked: int) -> MissingPredictionsError:
    shown = "; ".join(f'"{key}": {errors[key]}' for key in list(errors)[:_SHOWN])
    more = f"; and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
    return MissingPredictionsError(
        f"{len(errors)} of {num_asked} samples could not be asked: {shown}{more}. The other "
        f"answers are kept: mend the cause and start again, or count them as wrong with "
        f"allow_missing"
    )
