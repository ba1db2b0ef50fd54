"""`showo-turbo ask`, `describe`, `chat`: questions about an image, answered on the terminal."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from showo_turbo.cli.common_options import (
    DEFAULT_DTYPE,
    Adapter,
    Device,
    Dtype,
    ImageFile,
    ModelOrDefault,
    Quantization,
    command_line_option,
    given_options,
    load_pipeline,
    model_and_base,
    report_unknown_words,
    with_options,
)
from showo_turbo.cli.early_checks import check_texts
from showo_turbo.cli.exit_status import report_error
from showo_turbo.cli.terminal import TextPrinter, stats_line
from showo_turbo.errors import InputError
from showo_turbo.generation.options import DecodingOptions, add_options
from showo_turbo.validation import check_seed

if TYPE_CHECKING:
    from showo_turbo.pipelines.pipeline import ShowoPipeline


AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print each answer as a line of JSON, with its question and statistics."),
]


@dataclass(frozen=True)
@add_options(DecodingOptions, command_line_option)
class AnsweringArguments:
    """Hold the options of every command that answers."""

    model: ModelOrDefault = None
    adapter: Adapter = None
    seed: Annotated[int, typer.Option(help="Seed of every answer, for sampling.")] = 0
    stats: Annotated[bool, typer.Option("--stats", help="Print forward passes and tokens per pass.")] = False
    device: Device = None
    dtype: Dtype = DEFAULT_DTYPE
    quantization: Quantization = None

    def decoding_options(self) -> DecodingOptions:
        """Return the options as the library takes them.

        Raises:
            InputError: if one is out of its range, or the seed is invalid.
        """
        check_seed("seed", self.seed)
        return DecodingOptions(**given_options(DecodingOptions, self))

    def load_pipeline(self) -> "ShowoPipeline":
        """Load the pipeline that the options name."""
        model, base = model_and_base(self.model, self.adapter)
        return load_pipeline(model, self.device, self.dtype, self.quantization, base)


@dataclass(frozen=True)
@add_options(DecodingOptions, command_line_option, max_new_tokens=128)
class DescribingArguments(AnsweringArguments):
    """Hold the options of `describe`, whose answers are longer."""


@with_options
def ask(
    image: ImageFile,
    questions: Annotated[list[str], typer.Argument(help="One question or several.", show_default=False)],
    options: AnsweringArguments,
    as_json: AsJson = False,
) -> None:
    """Answer questions about an image. Several questions are printed with their answers."""
    answer(image, questions, options, as_json)


@with_options
def describe(image: ImageFile, options: DescribingArguments, as_json: AsJson = False) -> None:
    """Describe an image."""
    answer(image, ["Describe the image."], options, as_json)


def answer(image: str, questions: Sequence[str], options: AnsweringArguments, as_json: bool) -> None:
    """Print answers about an image, which is encoded once.

    Args:
        image: path of the image.
        questions: the questions.
        options: options of the command.
        as_json: print an object for each answer, once it is complete.

    Raises:
        InputError: if the image or the model cannot be read, or a question is invalid; before any answer.
    """
    from showo_turbo.processing.image_files import open_image

    decoding, loaded = options.decoding_options(), open_image(image)
    check_texts(
        model_and_base(options.model, options.adapter)[0], questions=questions, max_new_tokens=decoding.max_new_tokens
    )
    pipe = options.load_pipeline()
    pipe.check_questions(questions, decoding)
    report_unknown_words(pipe, questions, "questions")
    encoded = pipe.encode_images([loaded])
    for question in questions:
        if len(questions) > 1 and not as_json:
            typer.echo(question)
        printer = None if as_json else TextPrinter(pipe.prompts)
        output = pipe.image_to_text(encoded, question, **asdict(decoding), seed=options.seed, streamer=printer)
        if as_json:
            result: dict[str, object] = {"image": image, "question": question, "answer": output.texts[0]}
            result |= {"tokens": len(output.token_ids[0]), "forward_passes": output.forward_passes}
            typer.echo(json.dumps(result | {"seed": options.seed}))
        elif options.stats:
            typer.echo(stats_line(output, decoding.max_new_tokens))


@with_options
def chat(image: ImageFile, options: AnsweringArguments) -> None:
    """Chat about an image: every line of the input is a question, read together with the turns before it.

    An invalid question is reported, and the chat continues; the exit status is then 2. The shipped models are trained
    on single questions only, and often answer later ones wrongly: `ask` takes each question by itself.
    """
    from showo_turbo.processing.image_files import open_image

    decoding, loaded = options.decoding_options(), open_image(image)
    pipe = options.load_pipeline()
    conversation = pipe.chat(loaded)
    invalid = 0
    for question in _questions():
        report_unknown_words(pipe, [question], "questions")
        printer = TextPrinter(pipe.prompts)
        try:
            output = conversation.ask(question, **asdict(decoding), seed=options.seed, streamer=printer)
        except InputError as error:
            report_error(str(error))
            invalid += 1
            continue
        if options.stats:
            typer.echo(stats_line(output, decoding.max_new_tokens))
    if invalid:
        raise typer.Exit(2)


def _questions() -> Iterator[str]:
    """Yield the lines of standard input that are not empty, each after a prompt sign on a terminal."""
    interactive = sys.stdin.isatty()
    while True:
        if interactive:
            typer.echo("> ", nl=False, err=True)
        try:
            line = sys.stdin.readline()
        except UnicodeDecodeError as error:
            raise InputError(f"standard input is in another encoding than the terminal's ({error})") from error
        if not line:
            return
        if line.strip():
            yield line.strip()
