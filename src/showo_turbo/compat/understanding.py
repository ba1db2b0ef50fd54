"""`inference_mmu.py`: questions about every image of a folder, as Show-o's command asks them."""

from pathlib import Path
from typing import TYPE_CHECKING

from showo_turbo.compat.model import load_pipeline
from showo_turbo.compat.options import UnderstandingOptions, split
from showo_turbo.compat.outputs import OutputFolder
from showo_turbo.compat.tracker import check_tracker, track
from showo_turbo.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


def run(options: UnderstandingOptions) -> None:
    """Ask what the options say; answers are printed, and written to a file.

    Raises:
        InputError: when an image cannot be read, or an option is out of its range.
    """
    from showo_turbo.processing.images import load_image

    images = {path: load_image(path) for path in _image_files(Path(options.mmu_image_root))}
    folder = OutputFolder(options.output_folder("mmu"), "answers.jsonl", overwrite=options.overwrite)
    check_tracker(options)
    with folder.opened():
        results = _answer_all(options, images)
        folder.write_results(results)
    captions = {path: [] for path in images}
    for result in results:
        captions[Path(result["image"])].append(f"User: {result['question']}\n Answer : {result['answer']}\n")
    track(options, "mmu", "multimodal understanding", [(images[path], "".join(captions[path])) for path in images])


def _image_files(folder: Path) -> list[Path]:
    """The images of a folder by name; other files are passed over."""
    if not folder.is_dir():
        raise InputError(f"mmu_image_root {str(folder)!r} is no folder: name one that holds images")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    if not files:
        raise InputError(f"mmu_image_root {str(folder)!r} holds no image: expected {', '.join(sorted(_SUFFIXES))}")
    return files


def _answer_all(options: UnderstandingOptions, images: "dict[Path, Image]") -> list[dict[str, str]]:
    """All questions about an image at once, one image after the other."""
    pipe = load_pipeline(options)
    questions = split(options.question)
    results = []
    for path, image in images.items():
        answers = pipe.image_to_text(
            image,
            questions,
            max_new_tokens=options.max_new_tokens,
            decoding=options.decoding,
            block_length=options.block_length,
            seed=options.seed or 0,
        ).texts
        print(path)
        for question, answer in zip(questions, answers, strict=True):
            print(f"  {question}\n    {answer}", flush=True)
            results.append({"image": str(path), "question": question, "answer": answer})
    return results
