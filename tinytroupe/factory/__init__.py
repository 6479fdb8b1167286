"""Who to create: people made up by a model, all different."""

from tinytroupe.factory.tiny_person_factory import FactoryError, TinyPersonFactory

__all__ = ["FactoryError", "TinyPersonFactory"]
