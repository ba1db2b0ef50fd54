"""Choose the modules that an adapter updates, by the fields of its config with the meaning that PEFT gives to them."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import regex

from showo_turbo.checkpoints.adapter_patterns import AdapterPatterns
from showo_turbo.errors import InputError
from showo_turbo.validation import shown


@dataclass(frozen=True)
class AdapterTargets:
    """Hold the fields of an `adapter_config.json` that choose modules.

    Attributes:
        source: the adapter, for error messages.
        target_modules: names or ends of names of the modules to change, or a regular expression; None is all.
        exclude_modules: those to leave as they are, likewise.
        modules_to_save: modules that the adapter replaces, and does not update.
        layers_to_transform: numbers of the layers to change; None is all. Not for a regular expression.
        layers_pattern: names before the number of a layer; any if there are none.
    """

    source: str
    target_modules: str | tuple[str, ...] | None
    exclude_modules: str | tuple[str, ...]
    modules_to_save: tuple[str, ...]
    layers_to_transform: tuple[int, ...] | None
    layers_pattern: tuple[str, ...]

    @classmethod
    def from_dict(cls, source: str, values: dict[str, Any]) -> "AdapterTargets":
        """Create targets from a parsed `adapter_config.json`.

        Raises:
            InputError: if a field has another type, or `target_modules` is empty.
        """
        found: dict[str, Any] = {}
        for name in ("target_modules", "exclude_modules", "modules_to_save", "layers_pattern"):
            value = values.get(name)
            if isinstance(value, list) and all(isinstance(one, str) for one in value):
                value = tuple(value)
            elif value is not None and (not isinstance(value, str) or name == "modules_to_save"):
                raise InputError(f"{source} has {name} {shown(value)}: expected a list of texts")
            found[name] = value
        if found["target_modules"] in ((), "", "all-linear"):
            raise InputError(
                f"{source} has target_modules {shown(values['target_modules'])}: expected the names of modules"
            )
        layers = values.get("layers_to_transform")
        layers = [layers] if type(layers) is int else layers
        if layers is not None and not (isinstance(layers, list) and all(type(one) is int for one in layers)):
            raise InputError(f"{source} has layers_to_transform {shown(layers)}: expected numbers of layers")
        pattern = found["layers_pattern"] or ()
        if isinstance(found["target_modules"], str) and (layers is not None or found["layers_pattern"] is not None):
            raise InputError(f"{source} chooses layers beside a regular expression as target_modules: leave out one")
        if pattern and layers is None:
            raise InputError(f"{source} has layers_pattern without layers_to_transform: add it")
        return cls(
            source,
            found["target_modules"],
            found["exclude_modules"] or (),
            found["modules_to_save"] or (),
            tuple(layers) if layers else None,
            (pattern,) if isinstance(pattern, str) else pattern,
        )

    def among(self, modules: Collection[str]) -> set[str]:
        """Return those of some modules that the adapter updates.

        Raises:
            InputError: if an expression is invalid or takes too long.
        """
        patterns = AdapterPatterns(self.source)
        saved = [patterns.compile("modules_to_save", one, r"(^|.*\.){}($|\..*)") for one in self.modules_to_save]
        layers = [
            patterns.compile("layers_pattern", one, r"(?:^|.*?\.){}\.(?P<idx>\d+)\.") for one in self.layers_pattern
        ] or [patterns.compile("layers_pattern", r".*?\.[^.]*\.(?P<idx>\d+)\.")]
        excluded = self._named("exclude_modules", self.exclude_modules, patterns, modules)
        found = self._named("target_modules", self.target_modules, patterns, modules) - excluded
        return {
            module
            for module in found
            if not any(patterns.match(pattern, module) for pattern in saved)
            and (self.layers_to_transform is None or self._is_in_layers(patterns, layers, module))
        }

    def _named(
        self, field: str, names: str | tuple[str, ...] | None, patterns: AdapterPatterns, modules: Collection[str]
    ) -> set[str]:
        if names is None:
            return set(modules)
        if isinstance(names, str):
            pattern = patterns.compile(field, names, r"(?:{})\Z")
            return {module for module in modules if patterns.match(pattern, module)}
        ends = tuple(f".{name}" for name in names)
        return {module for module in modules if f".{module}".endswith(ends)}

    def _is_in_layers(self, patterns: AdapterPatterns, layers: list["regex.Pattern[str]"], module: str) -> bool:
        matches = (patterns.match(pattern, module) for pattern in layers)
        first = next((match for match in matches if match), None)
        return first is not None and int(first["idx"]) in (self.layers_to_transform or ())
