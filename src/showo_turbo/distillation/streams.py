"""What a stage reads: its sources, less what its teacher cannot use."""

from dataclasses import asdict, dataclass
from pathlib import Path

from accelerate import PartialState
from PIL import Image

from showo_turbo.checkpoints.image_tokenizer import fingerprint
from showo_turbo.data import CaptionSample, DialogueSample, MixedStream, TextSample, open_stream
from showo_turbo.data.sources.scenes import SceneDialogues
from showo_turbo.distillation.curriculum import DistillationConfig, Stage
from showo_turbo.distillation.rollouts import dialogue_ids
from showo_turbo.errors import InputError
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.pipelines.text_to_image import check_prompt
from showo_turbo.processing.images import check_aspect_ratio
from showo_turbo.scenes.pool import ScenePool

SOURCES = (
    ("captions", CaptionSample, "image"),
    ("dialogues", DialogueSample, "text"),
    ("texts", TextSample, "language"),
)
"""Sources of a distillation, what they yield, and which term of a stage reads them."""


@dataclass(frozen=True)
class StageStreams:
    """Opens a stage's sources.

    Attributes:
        config: the distillation, which names the sources.
        stage: who reads them.
        teacher: what it cannot use is left out, and named in a log.
        output: the stage's folder, where the logs are.
    """

    config: DistillationConfig
    stage: Stage
    teacher: ShowoPipeline
    output: Path

    def open(self, sources: str, seed: int | None = None, alone: bool = False, log: str | None = None) -> MixedStream:
        """The stream of some sources, by the config's name for them: this process's samples or, `alone`, all.

        Each stream of each process has a log of bad samples of its own, which is named after the sources by default.
        """
        state = PartialState()
        rank, world_size = (0, 1) if alone else (state.process_index, state.num_processes)
        kind = next(kind for name, kind, _ in SOURCES if name == sources)
        checks = {CaptionSample: self._check_caption, DialogueSample: self._check_dialogue}
        self.output.mkdir(parents=True, exist_ok=True)
        stream = open_stream(
            getattr(self.config, sources),
            kind,
            self.stage.loop.seed if seed is None else seed,
            rank=rank,
            world_size=world_size,
            log=self.output / f"bad_{log or sources}_{state.process_index}.jsonl",
            check=checks.get(kind),
        )
        for one in stream.sources:
            if isinstance(one.source, SceneDialogues):
                self._check_pool(one.name, one.source.pool)
        return stream

    def described(self, *names: str) -> dict[str, list[dict]]:
        """Sources as the config describes them, by its names for them."""
        return {name: [asdict(source) for source in getattr(self.config, name)] for name in names}

    def _check_pool(self, name: str, pool: ScenePool) -> None:
        """Refuse codes that mean other pictures to the teacher than to the image tokenizer that they are of."""
        image_tokenizer = self.teacher.image_tokenizer
        if image_tokenizer is not None and fingerprint(image_tokenizer) != pool.image_tokenizer:
            raise InputError(
                f"source {name!r} holds codes of another image tokenizer than the teacher's: name the teacher whose "
                "they are (teacher=..), or make a pool of this one's (pretrain scene-pool image_tokenizer=..)"
            )

    def _check_caption(self, sample: CaptionSample) -> None:
        check_prompt(self.teacher.prompts, sample.text)

    def _check_dialogue(self, sample: DialogueSample) -> None:
        """Refuse pictures that are strips, questions that are none, and dialogues that leave no room for an answer."""
        prompts, model = self.teacher.prompts, self.teacher.model
        if isinstance(sample.image, Image.Image):
            check_aspect_ratio(sample.image)
        elif self.teacher.check_codes(sample.image).numel() != model.config.num_vq_tokens:
            raise InputError(f"image has {sample.image.numel()} codes, those of the model {model.config.num_vq_tokens}")
        for turn in sample.turns:
            prompts.check_question(turn.question)
        spoken = dialogue_ids(prompts, [0] * model.config.num_vq_tokens, sample.turns)
        length = len(spoken) + self.stage.text.given_ids + self.stage.text.max_new_tokens
        if length > model.max_positions:
            raise InputError(f"dialogue and answer take {length} tokens, the model has {model.max_positions}")
