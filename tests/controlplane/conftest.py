"""Fixtures for tests that play on the control plane: a namespace's world, and our custom kinds."""

from collections.abc import Iterator

import pytest

from scheduler.apiserver.client import Api
from tests.controlplane.kinds.controller import install
from tests.controlplane.kinds.world import World
from tests.controlplane.plane import ControlPlane


@pytest.fixture
def world(plane: ControlPlane, namespace: str) -> Iterator[World]:
    """A new namespace, seen as administrator."""
    api = Api.load(plane.kubeconfig)
    yield World(api, namespace)
    api.close()


@pytest.fixture(scope="session")
def kinds_served(plane: ControlPlane) -> None:
    """Our definitions; set up before any `namespace`, so that they outlive the single test."""
    api = Api.load(plane.kubeconfig)
    install(api)
    api.close()


@pytest.fixture
def kinds_world(kinds_served: None, world: World) -> World:
    """A new namespace of a server that knows RoleBasedGroup and LeaderWorkerSet."""
    return world
