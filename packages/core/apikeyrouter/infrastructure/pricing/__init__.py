"""Price lists behind the domain's `PriceSource`."""
