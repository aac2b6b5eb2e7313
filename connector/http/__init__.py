"""The one transport to the outside: origin guard, sign-in, retry, shared rate gates, redaction."""
