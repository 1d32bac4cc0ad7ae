// Figures and times in words. Numbers are written as in the United States; times are those of the reader's clock.

const LOCALE = "en-US";
const WHOLE = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 0 });
const SHARE = new Intl.NumberFormat(LOCALE, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const THREE = new Intl.NumberFormat(LOCALE, { minimumSignificantDigits: 3, maximumSignificantDigits: 3 });
const ONE_DECIMAL = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 1 });

const currency = (digits) => new Intl.NumberFormat(LOCALE, { style: "currency", currency: "USD", ...digits });
const DOLLARS = currency({ minimumFractionDigits: 2, maximumFractionDigits: 2 });
const CENTS = currency({ minimumFractionDigits: 2, maximumFractionDigits: 4 });
const FRACTIONS = currency({ maximumSignificantDigits: 4 });

const CLOCK = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
const TIME = new Intl.DateTimeFormat(LOCALE, CLOCK);
const SECOND = new Intl.DateTimeFormat(LOCALE, { ...CLOCK, second: "2-digit" });
const DAY = new Intl.DateTimeFormat(LOCALE, { month: "short", day: "numeric" });

/** What stands where there is no figure. */
export const NONE = "–";

/** 13,852 */
export const count = (number) => WHOLE.format(number);

/** "1 request", "12 requests". */
export const counted = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** 73.4%; a rate that is nearly, but not, 100% is not called that. */
export function percent(share) {
  if (share === null) return NONE;
  return SHARE.format(share < 1 ? Math.min(share, 0.999) : share);
}

/** $12.30, $0.0123, $0.001344; "unknown" for null. Takes a decimal string, or a number. */
export function dollars(amount) {
  if (amount === null || amount === undefined) return "unknown";
  const number = Number(amount);
  const size = Math.abs(number);
  if (size === 0) return DOLLARS.format(0);
  return (size >= 1 ? DOLLARS : size >= 0.01 ? CENTS : FRACTIONS).format(number);
}

/** 56 ms, 3.82 s, 1 min 12 s, 23 h 53 min, 6 d 4 h. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  if (seconds > 0 && seconds < 0.001) return "under 1 ms";
  if (seconds < 0.9995) return `${count(seconds * 1000)} ms`;
  if (seconds < 59.95) return `${THREE.format(seconds)} s`;
  return coarse(seconds);
}

/** 45 s, 1 min 12 s, 23 h 53 min, 6 d 4 h. */
export function coarse(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return pair(whole, 60, "min", 1, "s");
  if (whole < 172800) return pair(whole, 3600, "h", 60, "min");
  return pair(whole, 86400, "d", 3600, "h");
}

function pair(seconds, large, largeUnit, small, smallUnit) {
  const rest = Math.floor((seconds % large) / small);
  return `${count(Math.floor(seconds / large))} ${largeUnit}${rest ? ` ${rest} ${smallUnit}` : ""}`;
}

/** 1.5 GiB */
export function bytes(number) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (number >= 1023.95 && at < units.length - 1) {
    number /= 1024;
    at += 1;
  }
  return `${ONE_DECIMAL.format(number)} ${units[at]}`;
}

/** How much sooner a warm first token came than a cold one, in words. */
export function sooner(warm, cold) {
  const ratio = cold / warm;
  const times = (value) => (value >= 10 ? count(value) : ONE_DECIMAL.format(value));
  if (ratio >= 1.05) return `${times(ratio)} times sooner`;
  return ratio > 0.95 ? "about as soon" : `${times(1 / ratio)} times later`;
}

/** 14:05 */
export const clock = (seconds) => TIME.format(seconds * 1000);

/** 14:05:09 */
export const clockSecond = (seconds) => SECOND.format(seconds * 1000);

/** Nov 23 */
export const day = (seconds) => DAY.format(seconds * 1000);

/** Nov 23, 14:05:09 */
export const moment = (seconds) => `${day(seconds)}, ${clockSecond(seconds)}`;

/** What a stretch of time is called: "Nov 23" for a day, else "Nov 23, 14:00–15:00". */
export function stretch(start, grain) {
  return grain >= 86400 ? day(start) : `${day(start)}, ${clock(start)}–${clock(start + grain)}`;
}
