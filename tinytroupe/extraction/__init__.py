"""What to take out of a simulation: results asked of a model, results picked by rules, artifacts as files."""

from tinytroupe.extraction.exporter import ArtifactExporter
from tinytroupe.extraction.results_extractor import ExtractionError, ResultsExtractor
from tinytroupe.extraction.results_reducer import ResultsReducer

__all__ = ["ArtifactExporter", "ExtractionError", "ResultsExtractor", "ResultsReducer"]
