"""linksub: keeps Work 365 linked subscriptions right (child → parent → provider, one way)."""

__version__ = "0.1.0"
