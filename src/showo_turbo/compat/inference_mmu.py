"""`inference_mmu.py`: questions about every image of a folder."""

from dataclasses import asdict
from pathlib import Path

from showo_turbo.cli.common_options import report_unknown_words
from showo_turbo.compat.output_folder import OutputFolder
from showo_turbo.compat.showo_options import UnderstandingOptions, split
from showo_turbo.compat.showo_pipeline import load_pipeline
from showo_turbo.compat.tracker import check_tracker, track
from showo_turbo.errors import InputError

IMAGE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


def run(options: UnderstandingOptions) -> None:
    """Answer all questions about all images; answers are printed, and written to a file.

    Raises:
        InputError: if an image cannot be read, or an option is out of its range.
    """
    from showo_turbo.processing.image_files import load_image

    images = _image_files(Path(options.mmu_image_root))
    for path in images:  # checks them before a model is loaded; together they may not fit in memory
        load_image(path)
    folder = OutputFolder(options.output_folder("mmu"), "answers.jsonl", overwrite=options.overwrite)
    check_tracker(options)
    with folder.opened():
        results = _answer_all(options, images, folder)
    captions: dict[Path, list[str]] = {path: [] for path in images}
    for result in results:
        captions[Path(result["image"])].append(f"User: {result['question']}\n Answer : {result['answer']}\n")
    captioned = ((load_image(path), "".join(lines)) for path, lines in captions.items())
    track(options, "mmu", "multimodal understanding", captioned)


def _image_files(folder: Path) -> list[Path]:
    """Return the image files of a folder, sorted by name; other files are skipped."""
    if not folder.is_dir():
        raise InputError(f"mmu_image_root {str(folder)!r} is not a folder: name one that holds images")
    images = (path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    files = sorted(path for path in images if not path.name.startswith("."))  # macOS writes `._name.png`
    if not files:
        raise InputError(f"mmu_image_root {str(folder)!r} holds no image: expected {', '.join(sorted(IMAGE_SUFFIXES))}")
    return files


def _answer_all(options: UnderstandingOptions, images: list[Path], folder: OutputFolder) -> list[dict[str, str]]:
    """Return the answers, after printing and writing them image by image."""
    pipe = load_pipeline(options)
    decoding = asdict(options.decoding_options())
    questions = split(options.question)
    report_unknown_words(pipe, questions, "questions")
    results = []
    for path in images:
        answers = pipe.image_to_text(str(path), questions, **decoding, seed=options.seed or 0).texts
        print(path)
        for question, answer in zip(questions, answers, strict=True):
            print(f"  {question}\n    {answer}", flush=True)
            results.append({"image": str(path), "question": question, "answer": answer})
        folder.write_results(results)
    return results
