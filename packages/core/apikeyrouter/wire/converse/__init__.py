"""Amazon Bedrock's Converse and ConverseStream, spoken to Bedrock only (see `one_way`).

`codec.ConverseCodec` speaks it. The model's name and whether to stream stand in the path; streams are binary
(`frames`). Sources: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html and
..._ConverseStream.html, as in the service model 2023-09-30 that botocore 1.44.5 ships (read 2026-11-21).
"""
