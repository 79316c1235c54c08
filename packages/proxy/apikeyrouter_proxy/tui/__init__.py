"""The dashboard in a terminal (`apikeyrouter top`): keys with their forecasts, live decisions, totals.

Main entry: `app.TopApp`. `board` holds what is known and knows nothing of terminals, `feed` brings it, `told` puts it
into words, `app` and `screens` draw it with Textual, which is the extra `tui` and is imported by `app` and `screens`
only. Laws: all of it comes over the management API of a running proxy; a lost connection is said and mended; colour
adds nothing that a word does not say.
"""
