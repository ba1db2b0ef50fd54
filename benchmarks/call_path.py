"""Count the files, functions and call depth of this project's own code in typical tasks.

    python benchmarks/call_path.py

Every task runs warm, with the shipped model. A function counts once however often it is called; the depth counts the
project's own frames only, generators included. `--list` prints the functions of the first two tasks.
"""

import contextlib
import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import showo_turbo

ROOT = str(Path(showo_turbo.__file__).parent)


def trace(task: Callable[[], object]) -> tuple[set[str], set[tuple[str, str]], int]:
    """Run a task; return its files, its (file, function) pairs and its greatest depth."""
    files: set[str] = set()
    functions: set[tuple[str, str]] = set()
    depth = deepest = 0

    def profile(frame, event, _argument):
        nonlocal depth, deepest
        code = frame.f_code
        if not code.co_filename.startswith(ROOT):
            return
        if event == "call":
            if code.co_name != "<module>" and not code.co_name.startswith("<"):
                file = code.co_filename[len(ROOT) + 1 :]
                files.add(file)
                functions.add((file, code.co_qualname))
            if not code.co_name.startswith("<"):
                depth += 1
                deepest = max(deepest, depth)
        elif event == "return" and not code.co_name.startswith("<"):
            depth -= 1

    sys.setprofile(profile)
    try:
        task()
    finally:
        sys.setprofile(None)
    return files, functions, deepest


def main() -> None:
    """Trace every task and print the counts."""
    from showo_turbo import ImageRequest, ShowoPipeline, TextRequest

    pipe = ShowoPipeline.from_pretrained("tiny-turbo", device="cpu")
    image = pipe.text_to_image("a red circle", seed=0).images[0]

    def draw() -> None:
        pipe.text_to_image("a red circle and a blue star", num_inference_steps=4, seed=0)

    def answer() -> None:
        pipe.image_to_text(image, "How many stars are there?", seed=0)

    def two_requests() -> None:
        for update in pipe.engine().run([ImageRequest("two stars", seed=0), TextRequest(image, "What is it?", seed=0)]):
            if update.done:
                update.output()

    def generate() -> None:
        from showo_turbo.cli.main import app

        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            app(["generate", "a red circle", "-o", f"{folder}/out.png", "--seed", "0"], standalone_mode=False)

    def distill() -> None:
        from showo_turbo.cli.main import app

        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            pool = f"{folder}/pool.safetensors"
            app(["pretrain", "scene-pool", f"output={pool}", "image_tokenizer=tiny", "count=40"], standalone_mode=False)
            stage = (
                "{name: one, loop: {steps: 1, log_steps: 1}, image: {batch_size: 2, num_inference_steps: 4}, "
                "text: {batch_size: 2, block_length: 4, max_new_tokens: 8}, language: {batch_size: 2}}"
            )
            run = ["distill", f"output={folder}/run", f"stages=[{stage}]", "teacher=tiny"]
            for kind in ("captions", "dialogues", "texts"):
                run.append(f"{kind}=[{{kind: scene_{kind}, path: {pool}}}]")
            traced = trace(lambda: app(run, standalone_mode=False))
            results["distill, one step, from the command line"] = traced

    results = {}
    for name, task in {
        "draw": draw,
        "answer": answer,
        "two engine requests": two_requests,
        "generate": generate,
    }.items():
        task()
        results[name] = trace(task)
    distill()
    print(f"{'task':45} files functions depth")
    for name, (files, functions, deepest) in results.items():
        print(f"{name:45} {len(files):5} {len(functions):9} {deepest:5}")
    if "--list" in sys.argv:
        for name in ("draw", "answer"):
            print(name)
            for file in sorted(results[name][0]):
                print("  ", file, *sorted(function for own, function in results[name][1] if own == file))


if __name__ == "__main__":
    main()
