"""Declare the limits of a server; the options of `showo-turbo serve` derive from them. No torch is imported here."""

from dataclasses import dataclass

from showo_turbo.generation.options import Options, option


@dataclass(frozen=True)
class LimitOptions(Options):
    """Limit what clients can take of a server.

    Attributes:
        max_sequences: sequences in one forward pass.
        max_queue: requests that wait for a place.
        request_timeout: seconds from a request to its result.
        drain_seconds: seconds that running requests get to finish at the end.
        max_streams: requests of one key at a time.
        max_body: size of a request in MiB.
        max_pixels: size of an image that is given, in million pixels.
        max_prompt: length of a prompt or question in characters.
        max_images: images of one request.
        max_steps: forward passes of one image or window.
        max_windows: windows of the model's size in one image.
        cache_size: size of the cache of dialogues, in MiB for each model.
        prefix_cache_size: size of the KV caches of pictures that requests share, in MiB for each model.

    Raises:
        InputError: if a value has another type or lies outside its range.
    """

    max_sequences: int = option(
        32, "Sequences in one forward pass: an answer takes one, an image one, or two with guidance.", minimum=1
    )
    max_queue: int = option(64, "Requests that wait for a place; more are refused with 429.", minimum=1)
    request_timeout: float = option(
        300.0, "Seconds from a request to its result.", above=0, maximum=1e6, range="more than 0, up to 1,000,000"
    )
    drain_seconds: float = option(
        30.0, "Seconds that running requests get to finish at the end.", minimum=0, maximum=1e6, range="0 to 1,000,000"
    )
    max_streams: int = option(64, "Requests of one key at a time.", minimum=1)
    max_body: int = option(32, "Size of a request in MiB.", minimum=1, maximum=1024, range="1 to 1,024")
    max_pixels: float = option(
        16.0, "Size of an image that is given, in million pixels.", above=0, maximum=80, range="more than 0, up to 80"
    )
    max_prompt: int = option(4096, "Length of a prompt or question in characters.", minimum=1)
    max_images: int = option(10, "Images of one request.", minimum=1)
    max_steps: int = option(64, "Forward passes of one image or window.", minimum=1)
    max_windows: int = option(16, "Windows of the model's size in one image.", minimum=1)
    cache_size: int = option(256, "Size of the cache of dialogues, in MiB for each model.", minimum=0)
    prefix_cache_size: int = option(
        256, "Size of the KV caches of pictures that requests share, in MiB for each model; 0 shares none.", minimum=0
    )
