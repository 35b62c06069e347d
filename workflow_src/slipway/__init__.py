"""The workflow: one module per stage, from checkpoint to published report."""

import os

# We fork only to run other programs. grpcio's handlers at a fork, which are for those that go on using it in the child, end one child
# in a hundred (SIGSEGV, or an abort over a closed epoll) while calls are under way. It looks here when it is imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
