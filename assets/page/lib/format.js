// Figures and model text as a visitor reads them.
const NO_BREAK = '\u202f';

// A probability as whole percent: hardly any is not none.
const whole = (share) => (share > 0 && share < 0.005 ? '<1' : `${Math.round(100 * share)}`);
export const rounded = (share) => `${whole(share)}${NO_BREAK}%`;

// A measured share, which is sure to no decimals: hardly any is not none, and nearly all is not all.
export const wholeNumber = (share) => (share < 1 && share > 0.995 ? '>99' : whole(share));
export const wholePercent = (share) => `${wholeNumber(share)}${NO_BREAK}%`;

// A share with a decimal where it is small.
const isTiny = (share) => share > 0 && share < 0.0005;
const percents = (share) => (100 * share).toFixed(share > 0 && share < 0.0995 ? 1 : 0);
export const percent = (share) => (isTiny(share) ? '<0.1 %' : `${percents(share)} %`);

// A score and a threshold, with as many digits as tell them apart: half of the scores may lie above 0.9997.
export const apart = (...values) => (
  [4, 5, 6, 7].map((digits) => values.map((value) => value.toFixed(digits))).find(([a, b]) => a !== b) ?? values);

export const seconds = (value) => `${value < 100 ? Number(value.toPrecision(3)) : Math.round(value)}${NO_BREAK}s`;

// "1 prompt", "2 prompts".
export const counted = (count, noun) => `${count} ${noun}${count === 1 ? '' : 's'}`;

// Control characters become visible symbols: an escape sequence must neither act nor vanish, nor may a token turn round its
// neighbours (embeddings, overrides and isolates of the bidirectional algorithm; the direction of letters stays theirs).
const symbol = (code) => (code < 0x20 ? String.fromCodePoint(0x2400 + code) : code === 0x7f ? '␡' : '\ufffd');
export const visible = (text) => text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, (c) => symbol(c.charCodeAt(0)));

// Whether a token is nothing but a break of the line: it has no letter that could have a colour.
export const isBreak = (text) => text.includes('\n') && !text.trim();

// White space too: a token as a name of itself.
export const spelled = (text) => visible(text).replace(/ /g, '·').replace(/\n/g, '⏎').replace(/\t/g, '⇥') || '(nothing yet)';
