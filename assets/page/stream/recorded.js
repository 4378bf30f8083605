// The recorded texts of the start page. Each position of the slider shows one of them, until the visitor has a text.
import { listen, perFrame } from '../lib/dom.js';
import { ACCEPTANCE, THRESHOLD } from '../lib/threshold.js';
import { placeNow } from '../slider/slider.js';

// A link to a text or a prompt shows that instead. (A refused link is taken out of the address later, so this looks at once.)
const isLinked = location.hash.length > 1 || new URLSearchParams(location.search).has('prompt');

// Each row has the first `cut` tokens of the row before, and then its own.
const unpack = (rows) => rows.reduce((texts, [threshold, acceptance, , cut, tokens]) => {
  const text = [...(texts.at(-1) ?? []).slice(0, cut), ...tokens];
  return [...texts, text.map((token) => Object.assign([...token], { [THRESHOLD]: threshold, [ACCEPTANCE]: acceptance }))];
}, []);

export const startRecorded = ({ element, props }, show) => {
  if (!props.recorded || isLinked) return;
  let recorded = JSON.parse(props.recorded);
  const { rows, scale, said, ...about } = recorded, texts = unpack(rows), last = rows.length - 1;
  const draw = perFrame(() => {
    if (!recorded) return;
    const at = scale[placeNow()], row = rows.findLastIndex(([threshold]) => threshold <= at), [, , cost] = rows[row];
    const note = `Recorded: ${row === 0 ? 'small model only' : row === last ? 'large model only' : `threshold ${at}`}`;
    show(texts[row], { ...about, about: said, note, cost, row, recorded: true });
  });
  listen(element, 'citer-place', draw);
  listen(element, 'citer-run', () => { recorded = null; });
  draw();
};
