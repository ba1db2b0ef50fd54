"""ComfyUI nodes that draw, edit and ask on a Showo Turbo server, over HTTP."""

from .nodes import ShowoTurboAsk, ShowoTurboDraw, ShowoTurboEdit

NODE_CLASS_MAPPINGS = {
    "ShowoTurboDraw": ShowoTurboDraw,
    "ShowoTurboEdit": ShowoTurboEdit,
    "ShowoTurboAsk": ShowoTurboAsk,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "ShowoTurboDraw": "Showo Turbo Draw",
    "ShowoTurboEdit": "Showo Turbo Edit",
    "ShowoTurboAsk": "Showo Turbo Ask",
}

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
