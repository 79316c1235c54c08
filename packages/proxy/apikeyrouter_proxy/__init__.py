"""The proxy of ApiKeyRouter: an OpenAI-compatible server over the library, with a management API and a CLI."""
