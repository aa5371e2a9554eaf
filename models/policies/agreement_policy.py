"""A policy over modalities that knows the stream's answer so far, and how far its own heads agree with it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.backbones.blocks import Backbone, Boundary
from models.policies.conditioning import AnswerCode
from models.policies.modality_policy import ModalityPolicy, RecalledState
from models.policies.policy import PolicyOutput


class AgreementPolicy(ModalityPolicy):
    """A modality policy with a class head on each view, conditioned on the stream's answer so far.

    Its inputs are how confident the answer (class probabilities) is, and how far each head agrees with it:
    the inner product of both. Neither depends on which classes there are.
    """

    def __init__(
        self,
        backbones: Sequence[Backbone],
        groups_of_views: Sequence[Sequence[int]],
        num_options: int,
        width: int,
        hidden: int,
        num_classes: int,
    ) -> None:
        super().__init__(backbones, groups_of_views, num_options, width, hidden)
        self.recalls = num_classes
        self.answer_code = AnswerCode()
        self.heads_in = nn.ModuleList(Boundary() for _ in backbones)
        self.classifiers = nn.ModuleList(
            nn.Linear(backbone.num_features, num_classes) for backbone in backbones
        )

    @property
    def heads(self) -> tuple[tuple[int, int], ...]:
        """One for each view, which answers for the first of the groups that the view speaks for."""
        return tuple((groups[0], view) for view, groups in enumerate(self.groups_of_views))

    @property
    def num_conditions(self) -> int:
        """The price, how sure the answer is, and how far each head agrees."""
        return self.price_code.size + AnswerCode.size + len(self.heads)

    def classifier(self, view: int) -> nn.Linear:
        """The class head of a view."""
        classifier = self.classifiers[view]
        assert isinstance(classifier, nn.Linear)
        return classifier

    def head_logits(self, features: Tensor) -> tuple[Tensor, ...]:
        """Class logits (..., C) of each of its heads, from features (..., F)."""
        views = self.of_views(features)
        return tuple(self.classifier(view)(self.heads_in[view](views[view])) for _, view in self.heads)

    def join(self, features: Tensor, present: Tensor | None) -> Tensor:
        """The joint features, and what each head says (class probabilities), zeros where nothing is there."""
        said = [logits.softmax(dim=-1) for logits in self.head_logits(features)]
        if present is not None and self.num_groups > 1:
            present = present.to(features)
            said = [
                probabilities * present[..., group : group + 1]
                for probabilities, (group, _) in zip(said, self.heads, strict=True)
            ]
        return torch.cat([super().join(features, present), *said], dim=-1)

    def encode_conditions(self, price: Tensor, answer: Tensor | None) -> Tensor:
        """The codes of the price and of the answer, and the answer itself."""
        if answer is None:
            answer = price.new_zeros(len(price), self.recalls)
        return torch.cat([super().encode_conditions(price, answer), self.answer_code(answer), answer], dim=-1)

    def advance(self, joined: Tensor, conditions: Tensor, state: RecalledState) -> PolicyOutput:
        """One step; what each head says is held against the answer."""
        features, *said = torch.split(joined, [self.width, *[self.recalls] * len(self.heads)], dim=-1)
        codes, answer = torch.split(conditions, [conditions.shape[-1] - self.recalls, self.recalls], dim=-1)
        agreement = [(own * answer).sum(dim=-1, keepdim=True) for own in said]
        return super().advance(features, torch.cat([codes, *agreement], dim=-1), state)
