// The texts of a sweep, by their rows: one for each setting of threshold and acceptance, the last LLM-only.
import { costOf } from '../slider/cost.js';
import { ACCEPTANCE, authorAt, bareToken, LLM, RATIO, SLM, TEXT } from '../lib/threshold.js';

const [SHARE, COST] = [0, 1];   // of a text's figures

// As few digits as tell them apart, where scores crowd; at least two.
export const distinct = (values) => {
  const written = (digits) => values.map((value) => value.toFixed(digits));
  return written([2, 3, 4, 5].find((digits) => new Set(written(digits)).size === values.length) ?? 6);
};

export class Texts {
  nodes = [];       // of the prefix tree: [parent, text, score]
  message = null;   // the newest
  #known = [];

  get isOn() { return ['running', 'waiting'].includes(this.message.state); }
  get last() { return this.message.points.length - 1; }
  get begun() { return [...this.message.points.keys()].filter((row) => this.message.leaves[row] >= 0); }
  get complete() { return this.begun.filter((row) => this.isComplete(row)); }

  take(message) {
    if (message.cut === 0) { this.nodes = []; this.#known = []; }
    this.nodes.push(...message.nodes);
    this.message = message;
  }

  isComplete(row) { return Boolean(this.message.figures[row]); }

  place(row) {
    const [threshold, acceptance] = this.message.points[row];
    return { threshold, acceptance };
  }

  // A row's tokens from the first on.
  textOf(row) {
    const { leaves, points, replaced } = this.message, leaf = leaves[row], [threshold, acceptance] = points[row];
    if (this.#known[row]?.leaf === leaf) return this.#known[row];
    const tokens = [], ratios = new Map(replaced);   // of drafts in place of which the LLM wrote
    for (let at = leaf; at >= 0; [at] = this.nodes[at]) {
      const [, text, score] = this.nodes[at], author = authorAt(score, threshold), refused = author === SLM && ratios.has(at);
      const token = bareToken(text, refused ? LLM : author, score, threshold);
      tokens.push(refused ? Object.assign(token, { [ACCEPTANCE]: acceptance, [RATIO]: ratios.get(at) }) : token);
    }
    const words = tokens.reverse().map((token) => token[TEXT]).join('');
    this.#known[row] = { leaf, tokens, words };
    return this.#known[row];
  }

  // Whether it is the LLM's own text, token for token.
  isLlmText(row) { return this.isComplete(row) && this.isComplete(this.last) && this.message.leaves[row] === this.message.leaves[this.last]; }

  isExact(row, { threshold, acceptance }) {
    if (!this.isComplete(row)) return false;
    const [own, ownAcceptance] = this.message.points[row], [low, high, lowAcceptance, highAcceptance] = this.message.same[row];
    return (threshold === own || (low < threshold && threshold <= high))
      && (acceptance === ownAcceptance || (lowAcceptance < acceptance && acceptance <= highAcceptance));
  }

  // The row whose text is that of a setting, else the nearest one; undefined where nothing is written yet.
  rowAt(place) {
    if (place.threshold > 1 && this.message.leaves[this.last] >= 0) return this.last;   // others may have its text, at their own cost
    const distance = (row) => Math.hypot(...['threshold', 'acceptance'].map((dial) => this.place(row)[dial] - place[dial]));
    const near = this.begun.sort((a, b) => distance(a) - distance(b));
    return near.find((row) => this.isExact(row, place)) ?? near[0];
  }

  share(row) { return this.message.figures[row][SHARE]; }

  // In all units, as the server tells it; and as a share of the large model's in the unit and at the price that are chosen.
  costs(row) { return this.message.figures[row][COST]; }
  cost(row) { return costOf(this.costs(row)); }

  // The cheapest row whose text is the LLM's own; undefined where LLM-only is not written yet.
  get cheapest() {
    return this.complete.filter((row) => this.isLlmText(row)).sort((a, b) => this.cost(a) - this.cost(b))[0];
  }
}
