// Figures and model text as a visitor reads them.
const NO_BREAK = '\u202f';

const whole = (share) => (share > 0 && share < 0.005 ? '<1' : `${Math.round(100 * share)}`);
export const rounded = (share) => `${whole(share)}${NO_BREAK}%`;

// For a measured share, which must not look complete before it is.
export const wholePercent = (share) => (share < 1 && share > 0.995 ? `>99${NO_BREAK}%` : rounded(share));

// A share with a decimal while it is small.
export const percent = (share) => (share > 0 && share < 0.0005 ? '<0.1 %' : `${(100 * share).toFixed(share > 0 && share < 0.0995 ? 1 : 0)} %`);

// Writes values with the first of these numbers of digits that tells them apart. Returns undefined if none does.
export const distinct = (values, digits) => digits.map((count) => values.map((value) => value.toFixed(count)))
  .find((texts) => new Set(texts).size === values.length);

// A threshold. Close to 1 its distance from 1 has two digits.
export const thresholdWords = (threshold) => {
  const left = 1 - threshold;
  return `${left > 0 && left < 0.01 ? Number((1 - Number(left.toPrecision(2))).toFixed(9)) : Number(threshold.toFixed(4))}`;
};

// A score and a threshold. Half of all scores may lie above 0.9997.
export const apart = (...pair) => distinct(pair, [4, 5, 6, 7]) ?? pair;

export const seconds = (value) => `${value < 100 ? Number(value.toPrecision(3)) : Math.round(value)}${NO_BREAK}s`;

export const counted = (count, noun) => `${count} ${noun}${count === 1 ? '' : 's'}`;

// Shows control characters as symbols: an escape sequence must neither act nor vanish. The same goes for bidirectional embeddings,
// overrides and isolates, which would turn round the neighbours of a token. Letters keep their own direction.
const symbol = (code) => (code < 0x20 ? String.fromCodePoint(0x2400 + code) : code === 0x7f ? '␡' : '\ufffd');
export const visible = (text) => text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, (c) => symbol(c.charCodeAt(0)));

// Whether a token is only a line break, which has no letter to colour.
export const isBreak = (text) => text.includes('\n') && !text.trim();

// A token's name, with its white space.
export const spelled = (text) => visible(text).replace(/ /g, '·').replace(/\n/g, '⏎').replace(/\t/g, '⇥') || '(nothing yet)';
