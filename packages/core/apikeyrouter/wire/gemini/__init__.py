"""Google's generateContent (https://ai.google.dev/api/generate-content), at the Gemini API and at Vertex AI.

`codec.GeminiCodec` speaks it. The model's name and whether to stream stand in the path, not in the body.
`embeddings` translates OpenAI's embeddings.
"""
