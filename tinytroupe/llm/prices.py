"""What calls cost in money, as far as prices are known."""

from __future__ import annotations

from decimal import Decimal

from tinytroupe.llm.usage import Usage


class PriceError(LookupError):
    """No price is known. The message says for what, and what would help."""


def cost_usd(usage: Usage, model: str, provider: str | None = None) -> Decimal:
    """Return what usage costs in US dollars, by the price list of the extra ``prices``.

    Parameters
    ----------
    usage
        Calls and tokens; cached prompt tokens are charged at their own rate where there is one.
    model
        Name of the model.
    provider
        Such as ``openai``, where the model's name alone does not tell.

    Raises
    ------
    PriceError
        The extra is not installed, or the list does not know the model.
    """
    try:
        import genai_prices
    except ImportError as error:
        raise PriceError("prices need the extra: pip install 'pytest-tinytroupe[prices]'") from error
    tokens = genai_prices.Usage(
        input_tokens=usage.prompt_tokens,
        cache_read_tokens=usage.cached_tokens,
        output_tokens=usage.completion_tokens,
    )
    try:
        price = genai_prices.calc_price(tokens, model_ref=model, provider_id=provider)
    except LookupError as error:
        raise PriceError(f"no price is known for the model {model!r} of {provider or 'any provider'}") from error
    return Decimal(price.total_price)
