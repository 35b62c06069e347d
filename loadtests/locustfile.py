"""Load a server by hand: `locust -f loadtests/locustfile.py --help`, or loadtests/README.md."""

from locust import events

from slipway_loadtests import by_hand
from slipway_loadtests.grpc_user import GrpcArrivals, GrpcUser
from slipway_loadtests.rest_user import RestArrivals, RestUser

# Locust finds users by looking for classes here.
__all__ = ["GrpcArrivals", "GrpcUser", "RestArrivals", "RestUser"]

by_hand.register(events)
