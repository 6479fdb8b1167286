"""How to steer a simulation: interventions that happen when something holds."""

from tinytroupe.steering.intervention import Intervention, InterventionBatch, InterventionError, intervene

__all__ = ["Intervention", "InterventionBatch", "InterventionError", "intervene"]
