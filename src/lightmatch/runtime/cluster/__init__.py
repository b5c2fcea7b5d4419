"""A Ray cluster as an executor: jobs on the cores of all its nodes, everything else in this process.

connection → nodes (who takes part) → dispatch (which item goes where) → worker (what runs there).

Nodes and this process share folders under the same names (photos, results). A job that was lost with its process or
its node is done again elsewhere: it reads immutable files and writes whole ones, so done twice it gives the same.
"""

from lightmatch.runtime.cluster.connection import RayCluster, ray_cluster

__all__ = ["RayCluster", "ray_cluster"]
