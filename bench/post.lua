-- wrk script: POSTs the file named by BENCH_BODY with the headers in BENCH_HEADERS ("Name: value" lines), prints one JSON line at the end.
local file = assert(io.open(os.getenv("BENCH_BODY"), "rb"))
wrk.method = "POST"
wrk.body = file:read("*a")
file:close()
wrk.headers["Content-Type"] = "application/json"
for name, value in string.gmatch(os.getenv("BENCH_HEADERS") or "", "([^:\n]+): ([^\n]+)") do
   wrk.headers[name] = value
end

function done(summary, latency, requests)
   local e = summary.errors
   io.write(string.format(
      "BENCH {\"requests\":%d,\"duration_s\":%.6f,\"p50_ms\":%.4f,\"p99_ms\":%.4f,\"bad_status\":%d,\"broken\":%d}\n",
      summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
      e.status, e.connect + e.read + e.write + e.timeout))
end
