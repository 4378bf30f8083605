// The recorded texts of the start page. Each position of the slider shows one of them, until the visitor has a text.
import { listen, perFrame } from '../lib/dom.js';
import { thresholdWords } from '../lib/format.js';
import { ACCEPTANCE, TAKEN, TEXT, THRESHOLD } from '../lib/threshold.js';
import { placeNow } from '../slider/slider.js';

// A link to a text or a prompt shows that instead. (A refused link is taken out of the address later, so this looks at once.)
const isLinked = location.hash.length > 1 || new URLSearchParams(location.search).has('prompt');

const WHO = ['small alone', 'together', 'large alone'];

// Each row has the first `cut` tokens of the row before, and then its own.
const unpack = (rows) => rows.reduce((texts, [, , , , cut, tokens]) => [...texts, [...(texts.at(-1) ?? []).slice(0, cut), ...tokens]], []);

// Gives the box the height of the longest text, so that the slider below it stays under the hand.
const makeRoom = (box, texts) => {
  const probe = box.cloneNode(), words = texts.map((text) => text.map((token) => `${(token[TAKEN] ?? []).join('  ')}${token[TEXT]}`).join(''));
  probe.textContent = words.reduce((longest, text) => (text.length > longest.length ? text : longest), '');
  box.after(probe);
  const { offsetHeight } = probe;
  probe.remove();
  box.style.setProperty('--room', `${offsetHeight}px`);
};

export const startRecorded = ({ element, props }, show) => {
  if (!props.recorded || isLinked) return;
  let recorded = JSON.parse(props.recorded);
  const box = element.querySelector('.stream-text');
  const { rows, scale, said, ...about } = recorded, texts = unpack(rows), last = rows.length - 1;
  const draw = perFrame(() => {
    if (!recorded) return;
    const at = scale[placeNow()], row = rows.findLastIndex(([threshold]) => threshold <= at), [, acceptance, cost] = rows[row];
    const tokens = texts[row].map((token) => Object.assign([...token], { [THRESHOLD]: at, [ACCEPTANCE]: acceptance }));
    const verdicts = [rows[0], rows[row], rows[last]].map(([, , , right], i) => [WHO[i], right])
      .filter(([, right], i) => right !== null && (i !== 1 || (row > 0 && row < last)));
    const note = `Recorded on another machine: ${row === 0 ? 'small model only' : row === last ? 'large model only' : `threshold ${thresholdWords(at)}`}`;
    show(tokens, { ...about, about: said, note, cost, row, verdicts, recorded: true });
  });
  listen(element, 'citer-place', draw);
  listen(element, 'citer-run', () => { recorded = null; });
  makeRoom(box, texts);
  draw();
};
