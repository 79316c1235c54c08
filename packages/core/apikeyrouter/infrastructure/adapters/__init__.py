"""Wire formats of providers. One that speaks OpenAI's is a row of arguments; a different one is a class."""
