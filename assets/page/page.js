// The scripts of the page's own components, by the names that Python gives them (`app.components`).
import './lib/fields.js';
import './lib/first_input.js';
import './lib/keys.js';
import './lib/lost.js';
import './lib/menus.js';
import './lib/refused.js';
import './lib/stop.js';
import './lib/tabs.js';
import { slider } from './lib/dom.js';

// Resolves when both dials and the prices are on the page. No panel starts before: on a busy machine gradio mounts some panels seconds
// earlier than the dials.
export const dialsThere = new Promise((resolve) => {
  const look = () => (slider('threshold') && slider('acceptance') && document.querySelector('#prices input') ? resolve() : setTimeout(look, 20));
  look();
});

// The page is shown after a short wait: gradio mounts its parts one after the other, and each would push the earlier ones down.
setTimeout(() => requestAnimationFrame(() => {
  document.body.classList.add('there');
  document.body.classList.toggle('fits', CSS.supports('field-sizing: content'));
}), 100);

export { tell } from './lib/dom.js';

export { start as compare } from './compare/compare.js';
export { start as conversation } from './conversation/conversation.js';
export { start as feed } from './stream/feed.js';
export { formerKey } from './stream/window.js';
export { start as theme } from './header/theme.js';
export { start as link_note } from './share/link_note.js';
export { start as share } from './share/share.js';
export { keep, keptFields, keptText, keptTrace, startKept } from './share/storage.js';
export { start as scores } from './scores/scores.js';
export { start as slider } from './slider/slider.js';
export { start as stream } from './stream/stream.js';
export { start as sweep } from './sweep/sweep.js';
export { start as prompts } from './tune/prompts.js';
export { start as tune } from './tune/tune.js';
export { start as versions } from './versions/versions.js';
