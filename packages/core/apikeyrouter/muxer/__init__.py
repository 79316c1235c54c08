"""Which model at all: requests for `auto` are given the model that suits them, and the choice is explained.

    response = await router.route(RequestIntent(model="auto:cost", messages=[...]))
    response.decision.model_choice.explanation

Parts: `tasks` reads a prompt; `difficulty` (and `trained`) say what a strong model would win; `groups` holds
candidates; `strategies` choose among them; `cascade` asks the cheap one first; `guard` keeps quality within a target;
`front` serves requests; `documents` has the classes of ModelMuxer's documents. Law: a model that a request names is
never overridden.
"""
