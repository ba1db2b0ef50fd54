"""Keeps the libraries below quiet: what commands print is theirs."""

import logging


def quiet_torchao() -> None:
    """Let its errors only be heard. Comes before transformers' models are imported, which import it if they can."""
    for name in ("torchao", "torch.utils._pytree"):  # on kernels for other processors, and on torchao's enumerations
        logging.getLogger(name).setLevel(logging.ERROR)


def quiet_transformers() -> None:
    """Let its errors only be heard."""
    from transformers.utils.logging import set_verbosity_error

    set_verbosity_error()
