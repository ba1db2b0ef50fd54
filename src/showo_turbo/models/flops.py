"""The floating point operations of a forward pass, from its sizes."""

from dataclasses import dataclass

from showo_turbo.configuration import BackboneConfig
from showo_turbo.models.showo import Showo


@dataclass(frozen=True)
class Sizes:
    """Hold what the operations depend on: layers, hidden size, MLP size, and the number of ids with logits."""

    layers: int
    hidden: int
    mlp: int
    scored_ids: int

    @classmethod
    def of(cls, model: Showo, scored_ids: int) -> "Sizes":
        """Return the sizes of a model."""
        return cls.from_config(model.showo.config, scored_ids)

    @classmethod
    def from_config(cls, config: BackboneConfig, scored_ids: int) -> "Sizes":
        """Return the sizes of a model with this config."""
        return cls(config.num_hidden_layers, config.hidden_size, config.intermediate_size, scored_ids)


def least_forward_flops(sizes: Sizes, rows: int, attended: int, scored_rows: int, scored_attended: int) -> int:
    """Return the operations of a forward pass that computes nothing needlessly; see docs/lab/speed.md.

    Args:
        sizes: of the model.
        rows: number of positions that are computed.
        attended: sum over these of the positions they attend to.
        scored_rows: number of rows with logits.
        scored_attended: sum over these of the positions they attend to.
    """
    hidden, mlp = sizes.hidden, sizes.mlp
    key_value, query_output, feed_forward, per_pair = 4 * hidden**2, 4 * hidden**2, 4 * hidden * mlp, 4 * hidden
    inner = rows * (key_value + query_output + feed_forward) + attended * per_pair
    last = rows * key_value + scored_rows * (query_output + feed_forward) + scored_attended * per_pair
    return (sizes.layers - 1) * inner + last + scored_rows * 2 * hidden * sizes.scored_ids
