"""Sources and probabilities beside a candidate: `groundingMetadata` and `logprobsResult`, both ways.

Citations are in OpenAI's shape: `{"type": "url_citation", "url_citation": {start_index, end_index, url, title}}`, with
indexes in characters; Google counts bytes of UTF-8 (https://ai.google.dev/api/generate-content#Segment, read
2026-11-21). Probabilities are in OpenAI chat's shape.
Law: readers take whatever is there and leave out what makes no sense: a source never spoils a reply.
"""

from __future__ import annotations

from typing import Any

__all__ = ["annotations_of", "grounding_metadata", "logprobs_of", "logprobs_result"]


def annotations_of(metadata: object, words: str) -> list[dict[str, Any]]:
    """The citations of a candidate whose text is `words`: one for each source of each supported segment; sources that
    support no segment in particular count for the whole text."""
    chunks = [_web(one) for one in _list(metadata, "groundingChunks")]
    raw = words.encode()
    found: list[dict[str, Any]] = []
    cited: set[int] = set()
    for support in _list(metadata, "groundingSupports"):
        segment = support.get("segment") if isinstance(support, dict) else None
        if not isinstance(segment, dict):
            continue
        start, end = _characters(raw, segment.get("startIndex", 0)), _characters(raw, segment.get("endIndex"))
        for index in _list(support, "groundingChunkIndices"):
            web = chunks[index] if type(index) is int and 0 <= index < len(chunks) else None
            if web is not None and start is not None and end is not None and start <= end:
                cited.add(index)
                found.append(_citation(web, start, end))
    found += [_citation(web, 0, len(words)) for i, web in enumerate(chunks) if web is not None and i not in cited]
    return found


def grounding_metadata(annotations: list[dict[str, Any]], words: str) -> dict[str, Any] | None:
    """The sources of a text for a client; None without any."""
    chunks: list[dict[str, Any]] = []
    supports: list[dict[str, Any]] = []
    places: dict[str, int] = {}
    for one in annotations:
        told = one.get("url_citation", one)
        url = told.get("url") if isinstance(told, dict) else None
        if not isinstance(url, str):
            continue
        place = places.setdefault(url, len(chunks))
        if place == len(chunks):
            chunks.append({"web": {"uri": url, "title": told.get("title") or ""}})
        start, end = told.get("start_index"), told.get("end_index")
        if type(start) is int and type(end) is int and 0 <= start <= end <= len(words):
            segment = {"startIndex": len(words[:start].encode()), "endIndex": len(words[:end].encode())}
            supports.append({"segment": {**segment, "text": words[start:end]}, "groundingChunkIndices": [place]})
    if not chunks:
        return None
    return {"groundingChunks": chunks, "groundingSupports": supports} if supports else {"groundingChunks": chunks}


def logprobs_of(result: object) -> dict[str, Any] | None:
    """`logprobsResult` in OpenAI's shape; None when there is none."""
    chosen = _list(result, "chosenCandidates")
    if not chosen:
        return None
    tops = _list(result, "topCandidates")
    content = []
    for place, one in enumerate(chosen):
        entry = _token(one)
        top = _list(tops[place], "candidates") if place < len(tops) else []
        entry["top_logprobs"] = [_token(other) for other in top]
        content.append(entry)
    return {"content": content, "refusal": None}


def logprobs_result(logprobs: dict[str, Any]) -> dict[str, Any] | None:
    """The same for a client."""
    content = [one for one in _list(logprobs, "content") if isinstance(one, dict)]
    if not content:
        return None
    chosen = [{"token": one.get("token", ""), "logProbability": one.get("logprob", 0.0)} for one in content]
    result: dict[str, Any] = {"chosenCandidates": chosen}
    if any(one.get("top_logprobs") for one in content):
        result["topCandidates"] = [
            {
                "candidates": [
                    {"token": other.get("token", ""), "logProbability": other.get("logprob", 0.0)}
                    for other in _list(one, "top_logprobs")
                    if isinstance(other, dict)
                ]
            }
            for one in content
        ]
    return result


def _token(one: object) -> dict[str, Any]:
    told = one if isinstance(one, dict) else {}
    token, chance = told.get("token"), told.get("logProbability")
    words = token if isinstance(token, str) else ""
    return {
        "token": words,
        "logprob": float(chance) if isinstance(chance, int | float) else 0.0,
        "bytes": list(words.encode()),
    }


def _web(chunk: object) -> dict[str, str] | None:
    """A source that has an address: a page, or a passage of a file that was found."""
    if not isinstance(chunk, dict):
        return None
    for name in ("web", "maps", "retrievedContext"):
        told = chunk.get(name)
        if isinstance(told, dict) and isinstance(told.get("uri"), str):
            title = told.get("title")
            return {"url": told["uri"], "title": title if isinstance(title, str) else ""}
    return None


def _citation(web: dict[str, str], start: int, end: int) -> dict[str, Any]:
    return {"type": "url_citation", "url_citation": {"start_index": start, "end_index": end, **web}}


def _characters(raw: bytes, count: object) -> int | None:
    """The index in characters of one in bytes."""
    if type(count) is not int or not 0 <= count <= len(raw):
        return None
    return len(raw[:count].decode(errors="ignore"))


def _list(holder: object, name: str) -> list[Any]:
    found = holder.get(name) if isinstance(holder, dict) else None
    return found if isinstance(found, list) else []
