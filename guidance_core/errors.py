"""The one error type: a sentence that says what was given, why it is wrong and what to do."""


class GuidanceError(ValueError):
    """Raised for every refused input; its text is meant to be read by the user as it stands."""
