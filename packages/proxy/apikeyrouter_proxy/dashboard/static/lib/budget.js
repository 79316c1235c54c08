// Budgets in words: what one covers, when it begins anew, what it does at its limit, and where it is going.

import { ago, moment, seconds, usd } from "./format.js";

export const SCOPES = [
  ["global", "Everything"], ["per_team", "One team"], ["per_virtual_key", "One client"], ["per_route", "One model"],
  ["per_provider", "One provider"], ["per_key", "One key"], ["per_tag", "One tag"],
];
const WHAT = {
  per_team: "Team", per_virtual_key: "Client", per_route: "Model", per_provider: "Provider", per_key: "Key", per_tag: "Tag",
};
export const PERIODS = [["hourly", "Hour"], ["daily", "Day"], ["weekly", "Week"], ["monthly", "Month"], ["total", "For good"]];
const EACH = { minute: "a minute", hourly: "an hour", daily: "a day", weekly: "a week", monthly: "a month", total: "for good" };
const LAST = { minute: "60 seconds", hourly: "60 minutes", daily: "24 hours", weekly: "7 days", monthly: "30 days" };

/** "Team search", "Everything". */
export const covers = (budget) => (budget.scope === "global" ? "Everything" : `${WHAT[budget.scope] ?? budget.scope} ${budget.scope_name ?? budget.scope_id}`);

export const nameOf = (budget) => budget.name || covers(budget);

/** "a day", "any 24 hours", "a month in Europe/Berlin". */
export function periodOf({ period, rolling, time_zone: zone }, withZone = true) {
  if (period === "total") return "for good";
  if (rolling) return "any " + LAST[period];
  return EACH[period] + (!withZone || zone === "UTC" || period === "hourly" ? "" : " in " + zone.replaceAll("_", " "));
}

export const modeOf = (budget) => (budget.enforcement_mode === "hard" ? "refuses" : "warns only");

/** What a period and a mode mean, in a sentence each, for those who choose. */
export const PERIOD_HINTS = {
  calendar: "Begins anew with the calendar: at midnight, on Mondays, on the 1st.",
  rolling: "Never begins anew: each dollar stops counting when it is as old as the period. No burst at midnight.",
};
export const MODE_HINTS = {
  hard: "A request that might not fit is refused before it is sent (402). Never overspent by requests that keep to their bounds.",
  soft: "Nothing is refused: you are told, by webhook and here, and spending goes on.",
};

export const limitReached = (budget) => Number(budget.current_spend) >= Number(budget.limit_amount);

/** Whether the straight line would have to look much further ahead than it looks back to say anything. */
export function isEarly({ projection: { at, runs_out_at: out, based_on_s: basis } }) {
  const ahead = ((out ?? at) ? Date.parse(out ?? at) - Date.now() : 0) / 1000;
  return basis < 60 || ahead > 50 * basis;
}

/** Whether so little is left of a hard budget that larger requests are refused already. */
export const refusesSoon = (budget) => budget.enforcement_mode === "hard" && !limitReached(budget) && Number(budget.current_spend) >= 0.95 * Number(budget.limit_amount);

/** [tone, word]: how a budget stands. */
export function statusOf(budget) {
  if (limitReached(budget)) return budget.enforcement_mode === "hard" ? ["bad", "used up"] : ["bad", "over its limit"];
  if (refusesSoon(budget)) return ["bad", "almost full"];
  if (budget.projection.runs_out_at && !isEarly(budget)) return ["warn", "will run out"];
  return budget.passed.length && Math.max(...budget.passed) >= 80 ? ["warn", "nearly used"] : ["good", isEarly(budget) ? "within limit" : "on track"];
}

/** Where it is going, short. */
export function outlookOf(budget) {
  const { at, spend_at_end: end, runs_out_at: out } = budget.projection;
  if (limitReached(budget)) return budget.reset_at ? "free again " + ago(budget.reset_at) : budget.rolling ? "frees up bit by bit" : "raise the limit to go on";
  if (Number(budget.current_spend) === 0) return "nothing spent yet";
  if (refusesSoon(budget)) return `only ${usd(budget.remaining)} left`;
  if (isEarly(budget)) return "too early to tell";
  if (out) return "runs out " + ago(out);
  if (at) return `${usd(end)} by the end`;
  return budget.period === "total" ? "lasts for years" : `stays near ${usd(budget.current_spend)}`;
}

/** The same as a sentence, with what it rests on. */
export function outlookSentence(budget) {
  const { at, spend_at_end: end, runs_out_at: out, based_on_s: basis } = budget.projection;
  if (limitReached(budget)) {
    const now = budget.enforcement_mode === "hard" ? "The limit is reached: requests are refused" : "The limit is passed; requests go on, since it only warns";
    return now + (budget.reset_at ? `. It begins anew on ${moment(budget.reset_at)}.` : budget.rolling ? ", until older spend stops counting." : ", until the limit is raised.");
  }
  if (Number(budget.current_spend) === 0) return "Nothing is spent yet in this period.";
  if (refusesSoon(budget)) return `Only ${usd(budget.remaining)} are left: requests that might cost more are refused already.${budget.reset_at ? ` It begins anew on ${moment(budget.reset_at)}.` : ""}`;
  if (isEarly(budget)) return `Too early to tell where it goes: there are only ${seconds(basis)} to look back on.`;
  const line = `A straight line through the last ${seconds(basis)}`;
  const caveat = " It knows no nights and no weekends.";
  if (out) return `${line} reaches the limit on ${moment(out)}${budget.reset_at ? `, before the period ends on ${moment(budget.reset_at)}` : ""}.${caveat}`;
  if (at) return `${line} ends at ${usd(end)} of ${limitText(budget)} on ${moment(at)}.${caveat}`;
  return budget.period === "total" ? `${line} does not reach the limit within ten years.` : `It covers any ${LAST[budget.period]}; at this rate it stays where it is.`;
}

/** A limit as it was written: $5.00, $0.08, $0.000001. */
export function limitText(budget) {
  const [whole, part = ""] = String(budget.limit_amount).split(".");
  return whole.length > 6 ? usd(budget.limit_amount) : `$${Number(whole).toLocaleString("en")}.${part.padEnd(2, "0")}`;
}

export const shareOf = (budget) => Number(budget.current_spend) / Number(budget.limit_amount);
export const heldShareOf = (budget) => Number(budget.held) / Number(budget.limit_amount);
