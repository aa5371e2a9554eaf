"""Branches over an action space: the networks that a policy, or the app, chooses from."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from models.augmentation import NO_AUGMENTATION, Augmentation
from models.backbones.blocks import Backbone, BranchOutput, BranchState, Gates
from runtimes import spec
from runtimes.spec import ActionSpace, Option, View

POLICY = "policy"
"""The graph name that stands for the policy itself in a model's action space."""

PrecisionNetworks = Mapping[str, Mapping[str, Backbone]]
"""Networks by branch name and precision."""


def pixels(frames: Tensor, view: View) -> Tensor:
    """What a network sees of uint8 frames: float images, (pixel - zero_point) * scale.

    Frames (N, H, W, C) become (N, C, H, W); segments (N, F, H, W, C) become (N * F, C, H, W).
    """
    images = frames.flatten(0, -4)
    return (images.permute(0, 3, 1, 2).float() - view.zero_point) * view.scale


class BranchModel(nn.Module):
    """Branches over an action space: what there is to choose from. Alone, the caller chooses.

    Options of the action space name branches by ``graph``, or skip.
    """

    def __init__(
        self,
        branches: Mapping[str, Backbone],
        space: ActionSpace,
        views: Mapping[str, View],
        labels: tuple[str, ...],
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleDict(branches)
        self.space = space
        self.views = dict(views)
        self.labels = labels

    def backbones(self) -> dict[str, Backbone]:
        """Every backbone by branch name."""
        return {name: b for name, b in self.branches.items() if isinstance(b, Backbone)}

    def backbone(self, branch: str) -> Backbone:
        """The network of a branch."""
        network = self.branches[branch]
        assert isinstance(network, Backbone)
        return network

    @property
    def branch_views(self) -> tuple[tuple[str, ...], ...]:
        """For each group, the views that its branches run on, once each."""
        return tuple(
            tuple(dict.fromkeys(option.view for option in group.options if option.view))
            for group in self.space.groups
        )

    @property
    def may_lack(self) -> tuple[tuple[str, ...], ...]:
        """``branch_views`` where a step may lack some of them; nothing if all there is are pictures."""
        modalities = {self.views[view].modality for views in self.branch_views for view in views}
        return self.branch_views if len(self.space.groups) > 1 or modalities - {"rgb"} else ()

    def fusion_of(self, window: int) -> spec.Fusion:
        """How a device fuses what its branches say, over so many steps."""
        return spec.Fusion(window=window)

    def view_of(self, part: str) -> View:
        """The view that a branch runs on."""
        names = {option.graph: option.view for option in self.space.options}
        return self.views[str(names[part])]

    def branch_logits(
        self, branch: str, frames: Tensor, augmentation: Augmentation = NO_AUGMENTATION
    ) -> Tensor:
        """Class logits (N, C) of one branch on its view, uint8 (N, S, S, 3), or segments (N, F, S, S, C)."""
        return self.run_branch(branch, frames, augmentation).logits

    def run_branch(
        self,
        branch: str,
        frames: Tensor,
        augmentation: Augmentation = NO_AUGMENTATION,
        gates: Gates | None = None,
        state: BranchState = (),
    ) -> BranchOutput:
        """One call of a branch on its view, see ``Backbone.run``."""
        view = self.view_of(branch)
        images = augmentation.of_view(pixels(frames, view), view)
        return self.backbone(branch).run(images, gates, state)

    def branches_alone(self) -> BranchModel:
        """Its branches as a model of their own, without skips and without a policy."""
        groups = [
            group.model_copy(
                update={"options": tuple(o for o in group.options if str(o.graph) in self.branches)}
            )
            for group in self.space.groups
        ]
        space = ActionSpace(groups=tuple(groups))
        return BranchModel(BranchModel.backbones(self), space, self.views, self.labels)

    def choosing_precisions(self, networks: PrecisionNetworks) -> BranchModel:
        """A model over the same groups whose branches come at several precisions; nothing is trained.

        Every option of a branch becomes one option per precision, called ``<option>-<precision>``.
        """
        space = space_of_precisions(self.space, networks)
        return BranchModel(branches_of_precisions(networks), space, self.views, self.labels)


def space_of_precisions(space: ActionSpace, networks: PrecisionNetworks) -> ActionSpace:
    """An action space with an option per precision in place of each option of a branch in ``networks``."""
    groups = []
    for group in space.groups:
        options: list[Option] = []
        for option in group.options:
            precisions = networks.get(str(option.graph), {})
            options += [_at_precision(option, precision) for precision in precisions] or [option]
        groups.append(group.model_copy(update={"options": tuple(options)}))
    return ActionSpace(groups=tuple(groups))


def branches_of_precisions(networks: PrecisionNetworks) -> dict[str, Backbone]:
    """The networks by the names that the options of ``space_of_precisions`` have for them."""
    return {
        f"{branch}-{precision}": network
        for branch, of_branch in networks.items()
        for precision, network in of_branch.items()
    }


def _at_precision(option: Option, precision: str) -> Option:
    names = {"name": f"{option.name}-{precision}", "graph": f"{option.graph}-{precision}"}
    return option.model_copy(update={**names, "precision": precision})
