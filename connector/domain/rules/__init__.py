"""The rules, as plug-in steps. `registry` says what a step is; the other modules hold the steps, one concern each."""
