"""Classifiers fitted on features before a backbone trains."""

from __future__ import annotations

import torch
from torch import nn

from compiler.training.linear_probe import classifier_of, embedded, fit_classifier
from models.policies.policy import BackboneClassifier
from models.rollout.branch_model import POLICY
from tests.models.small_arnet import BRANCHES, LABELS, random_pixels, small_model


def test_classifiers_give_the_class_logits() -> None:
    model = small_model()
    classifier = BackboneClassifier(model.policy.backbone, model.policy.classify)
    for network in (classifier, *model.branches.values()):
        layer = classifier_of(network)
        assert layer.out_features == len(LABELS)
        assert any(layer is module for module in network.modules())
    assert classifier_of(classifier) is model.policy.classify


def test_separable_features_are_separated() -> None:
    torch.manual_seed(0)
    labels = torch.arange(60) % 3
    features = torch.randn(60, 16) + 4 * nn.functional.one_hot(labels, 16)
    classifier = nn.Linear(16, 3)
    fit_classifier(classifier, features, labels, decay=1e-3)
    assert (classifier(features).argmax(1) == labels).all()


def test_decay_keeps_the_weights_small() -> None:
    torch.manual_seed(0)
    features, labels = torch.randn(30, 16), torch.arange(30) % 3
    sizes = []
    for decay in (1e-4, 1e-2, 1.0):
        classifier = nn.Linear(16, 3)
        fit_classifier(classifier, features, labels, decay)
        sizes.append(float(classifier.weight.detach().norm()))
    assert sizes == sorted(sizes, reverse=True)


def test_embedded_are_the_networks_own_features() -> None:
    model = small_model()
    for name, network in model.backbones().items():
        view = model.policy_views[0] if name == POLICY else BRANCHES[0]
        pictures = random_pixels(model, view, count=4)
        got = embedded(network, pictures.split(2))
        with torch.no_grad():
            assert torch.allclose(got, network.embed(pictures), atol=1e-5)
