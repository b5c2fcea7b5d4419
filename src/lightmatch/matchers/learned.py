"""What learned matchers have in common: a network of a known config, weights in files, passes over unequal pairs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, NamedTuple, Self, TypeVar, get_args

import torch
from torch import Tensor, nn

from lightmatch.errors import FeatureMismatchError, InvalidValueError, WeightsError
from lightmatch.matchers.base import Matcher
from lightmatch.matchers.family import MatcherFamily, MatcherSetup, Proposals, available_matchers, matcher_family
from lightmatch.matchers.spec import MatcherSpec
from lightmatch.runtime import codec
from lightmatch.runtime.devices import Precision, pick_dtype
from lightmatch.runtime.discovery import resolve
from lightmatch.runtime.store import digest
from lightmatch.types import FeatureBatch, Features, Matches
from lightmatch.weights import load_strictly, read_tensors, tensors_digest, write_tensors


class PassLimits(NamedTuple):
    """What bounds the pairs that share a pass through the network."""

    points: int  # of both images, padded: bounds the memory
    padding: float  # padded points, as a multiple of the real ones


# A CPU is as fast with single pairs, but for very small ones; other devices need many points to be busy.
PASS_LIMITS = {"cpu": PassLimits(1 << 12, 1.1)}
_OTHER_LIMITS = PassLimits(1 << 14, 2.0)
PRECISIONS = tuple(name for name in get_args(Precision) if name != "auto")

Config = TypeVar("Config", bound=Any)
Network = TypeVar("Network", bound=nn.Module)  # with a method `compute_in(dtype)`


class LearnedMatcher(Matcher, Generic[Config, Network]):
    """A matcher whose network is made from a config, a frozen dataclass that names the features it belongs to."""

    _config_type: type[Config]
    _network_type: type[Network]
    run_options: tuple[str, ...]  # fields of the config that do not change the network

    def __init__(
        self,
        config: Config | None = None,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Random weights; for trained ones see `from_checkpoint`.

        dtype: float32, bfloat16 or float16, in which the layers compute; what is delicate stays float32.
        """
        if dtype not in (torch.float32, torch.bfloat16, torch.float16):
            raise InvalidValueError(f"{type(self).__name__}.dtype: expected float32, bfloat16 or float16, got {dtype}")
        self.config = config or self._config_type()
        self.dtype = dtype
        network: Any = self._network_type(self.config).to(device, torch.float32)  # whatever PyTorch's defaults are
        self.network: Network = network.compute_in(dtype).eval()

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return next(self.network.parameters()).device

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        features: str | None = None,
        *,
        sha256: str | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        **run_options: Any,
    ) -> Self:
        """A file of our own (.safetensors), or an official one (.pth), strictly.

        features: name of the features the weights belong to; needed where the file does not say.
        sha256: the file's expected hash, checked before it is read. run_options: fields of the config that
        change how the network is used, not its size.
        """
        cls._check_options(run_options)
        tensors, metadata = read_tensors(path, sha256)
        config = cls.saved_config(metadata, path)
        if config is not None:
            if features not in (None, config.features):
                raise FeatureMismatchError(
                    f"{path}: expected weights for {features!r}, got weights for {config.features!r};"
                    " leave `features` out or load another file"
                )
        else:
            config, tensors = cls._read_official(tensors, features, path)
        with torch.random.fork_rng(devices=[]):  # the random weights that are about to be replaced cost no one else's
            matcher = cls(cls._with_options(config, run_options), device=device, dtype=dtype)
        load_strictly(matcher.network, tensors, path)
        return matcher

    def with_options(self, **run_options: Any) -> Self:
        """The same network used in another way; both share its weights. run_options: as for `from_checkpoint`."""
        self._check_options(run_options)
        other = copy(self)
        other.config = self._with_options(self.config, run_options)
        return other

    def weights_digest(self) -> str:
        """As in the base class."""
        return digest(tensors_digest(self.network.state_dict()), codec.dumps(self.config))

    def save(self, path: str | Path, **metadata: str) -> None:
        """Write weights and config to a .safetensors file that `from_checkpoint` reads back."""
        metadata = {**metadata, "config": codec.dumps(self.config)}
        write_tensors(path, self.network.state_dict(), metadata)

    @classmethod
    def saved_config(cls, metadata: Mapping[str, str], path: str | Path) -> Config | None:
        """The config that `save` wrote into the metadata of a file; None where there is none: a file of others.

        Raises WeightsError where it is damaged, of another matcher or of another version.
        """
        if "config" not in metadata:
            return None
        advice = "load it with the matcher it was made for, or update lightmatch"
        try:
            return codec.loads(cls._config_type, metadata["config"], f"{path}: config of {cls.__name__}", advice=advice)
        except InvalidValueError as error:
            raise WeightsError(str(error)) from error

    @torch.no_grad()
    def match_batch(self, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
        """Matches of each pair, as many pairs at a time as fit into one pass.

        What an image's pairs share is computed once for Features that stand in several pairs of the list.
        """
        for pair in pairs:
            for features in pair:
                self._check_kind(features)
        results: dict[int, Matches] = {}
        waiting = []
        for number, (features0, features1) in enumerate(pairs):
            if min(len(features0), len(features1)) == 0:
                results[number] = _empty_result(features0, features1)
            else:
                waiting.append(number)
        # Pairs of like size share a pass, so that padding costs little.
        waiting.sort(key=lambda number: sorted(map(len, pairs[number])))
        shared: dict[int, Any] = {}
        for group in passes(waiting, pairs, PASS_LIMITS.get(self.device.type, _OTHER_LIMITS)):
            with self._in_own_precision():
                found = self._match_padded([pairs[number] for number in group], shared)
            for number, matches in zip(group, found, strict=True):
                results[number] = matches.to(pairs[number][0].device)
        return [results[number] for number in range(len(pairs))]

    @classmethod
    def _check_options(cls, options: Mapping[str, Any]) -> None:
        unknown = options.keys() - set(cls.run_options)
        if unknown:
            raise InvalidValueError(
                f"expected options among {', '.join(cls.run_options)}, got {', '.join(sorted(unknown))};"
                " the size of a network comes with its weights"
            )

    @classmethod
    def _with_options(cls, config: Config, options: Mapping[str, Any]) -> Config:
        """The config of a file, with what the caller says of how the network is used."""
        return replace(config, **options)

    @classmethod
    @abstractmethod
    def _read_official(
        cls, tensors: Mapping[str, Tensor], features: str | None, path: str | Path
    ) -> tuple[Config, dict[str, Tensor]]:
        """Config and tensors, under our names, of the authors' file."""

    @abstractmethod
    def _match_padded(self, pairs: list[tuple[Features, Features]], shared: dict[int, Any]) -> list[Matches]:
        """Matches of each pair in one pass, on the network's device; every image has keypoints.

        shared: what the passes of one call leave for each other, by the `id` of Features.
        """

    def _check_kind(self, features: Features) -> None:
        """Raise FeatureMismatchError for features the network was not made for."""
        kind, config = features.kind, self.config
        if (kind.name, kind.descriptor_dim) != (config.features, config.input_dim):
            raise FeatureMismatchError(
                f"this {type(self).__name__} was made for {config.features!r} features ({config.input_dim} wide),"
                f" got {kind.name!r} ({kind.descriptor_dim} wide); use an extractor and weights made for each other"
            )

    def _in_own_precision(self) -> torch.autocast:
        """For a block: computed in the matcher's own precision, also where the caller has another for its networks."""
        return torch.autocast(self.device.type, enabled=False)

    def _batch(self, features: list[Features]) -> FeatureBatch:
        """The features, padded, on the network's device."""
        return FeatureBatch.from_features([f.to(self.device) for f in features])


class LearnedFamily(MatcherFamily):
    """A family of learned matchers: weights from a file, in a precision, with a threshold on the score."""

    options = PRECISIONS
    takes_min_score = True
    matcher_type: type[LearnedMatcher[Any, Any]]
    default_features: str | None = None  # where neither the caller nor a file says which

    def check(self, spec: MatcherSpec) -> None:
        """As in the base class."""
        precisions = [option for option in spec.options if option in PRECISIONS]
        if len(precisions) > 1:
            raise self.refuse(spec, f"two precisions, {' and '.join(precisions)}; leave one out")

    def path(self, spec: MatcherSpec, setup: MatcherSetup) -> Path:
        """The file of weights."""
        return Path(spec.source)

    def run_options(self, spec: MatcherSpec) -> dict[str, Any]:
        """What the specification says of how the network is used: fields of its config."""
        return {} if spec.min_score is None else {"filter_threshold": spec.min_score}

    def fastest_dtype(self, spec: MatcherSpec, setup: MatcherSetup) -> torch.dtype:
        """Where neither the specification nor the caller names a precision."""
        return torch.float32

    def create(self, spec: MatcherSpec, setup: MatcherSetup) -> LearnedMatcher[Any, Any]:
        """As in the base class."""
        return self._load(self.path(spec, setup), spec, setup)

    def propose(self, spec: MatcherSpec, setup: MatcherSetup) -> Proposals:
        """Matches of any score; its own threshold, or that of the specification, decides which count."""
        thresholded = self._load(self.path(spec, setup), spec, setup)
        min_score = thresholded.config.filter_threshold
        matcher = thresholded.with_options(filter_threshold=0.0)
        state = digest(matcher.weights_digest(), str(matcher.dtype))
        return Proposals(matcher, min_score, f"{self.name}-{state[:16]}")

    def _load(self, path: Path, spec: MatcherSpec, setup: MatcherSetup) -> LearnedMatcher[Any, Any]:
        named = [pick_dtype(option) for option in spec.options if option in PRECISIONS]
        dtype = next(iter(named), None) or setup.dtype or self.fastest_dtype(spec, setup)
        features = setup.features or (None if spec.source else self.default_features)
        return self.matcher_type.from_checkpoint(
            path, features, device=setup.device, dtype=dtype, **self.run_options(spec)
        )


def family_of_config(config: object) -> LearnedFamily:
    """The family whose networks are made from configs of this type. Raises InvalidValueError where there is none."""
    for name in available_matchers():
        family = matcher_family(name)
        if isinstance(family, LearnedFamily) and family.config is not None and type(config) is resolve(family.config):
            return family
    raise InvalidValueError(f"matcher: expected the config of a learned matcher, got {type(config).__name__}")


def passes(numbers: list[int], pairs: Sequence[tuple[Features, Features]], limits: PassLimits) -> Iterator[list[int]]:
    """Groups of pairs, in order, each within the limits."""
    group: list[int] = []
    longest, real = [0, 0], 0
    for number in numbers:
        lengths = [len(features) for features in pairs[number]]
        grown = [max(old, new) for old, new in zip(longest, lengths, strict=True)]
        padded = sum(grown) * (len(group) + 1)
        if group and (padded > limits.points or padded > limits.padding * (real + sum(lengths))):
            yield group
            group, grown, real = [], lengths, 0
        group, longest, real = [*group, number], grown, real + sum(lengths)
    if group:
        yield group


def _empty_result(features0: Features, features1: Features) -> Matches:
    device = features0.device

    def layers(features: Features) -> Tensor:
        return torch.zeros(len(features), dtype=torch.int64, device=device)

    none = torch.empty((0, 2), dtype=torch.int64, device=device)
    return Matches(none, torch.empty(0, dtype=torch.float32, device=device), 0, layers(features0), layers(features1))
