"""Provider plug-ins: who fulfils a subscription (Do Nothing, Manual, Linked, Partner Center)."""
