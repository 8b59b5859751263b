"""Which type of node Ray's autoscaler asks a cloud for: one that the cloud has not refused lately.

Ray 2.60 loads `score_node_type` where `RAY_AUTOSCALER_UTILIZATION_SCORER=node_choice.score_node_type` is set and its
first autoscaler runs (`RAY_enable_autoscaler_v2=0`): see gpu.yaml. Without it, both of Ray's autoscalers ask for the
same type again where a launch fails, and a sweep waits for a spot instance while another type is to be had.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ray.autoscaler._private.resource_demand_scheduler import _default_utilization_scorer


def score_node_type(
    node_resources: Mapping[str, float],
    resources: Sequence[Mapping[str, float]],
    node_type: str,
    *,
    node_availability_summary: Any,
) -> tuple[Any, ...] | None:
    """Ray's own score after whether the type was to be had; None: it holds nothing of what is asked for.

    Ray notes a refused launch for `AUTOSCALER_NODE_AVAILABILITY_MAX_STALENESS_S` (30 min). The largest score is taken;
    among equal ones the last name: `spot-g6` before `spot-g5` before `on-demand-g6`.
    """
    score = _default_utilization_scorer(
        node_resources, resources, node_type, node_availability_summary=node_availability_summary
    )
    if score is None:
        return None
    record = node_availability_summary.node_availabilities.get(node_type)
    return (record is None or record.is_available, *score)
