import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.zip.DataFormatException;
import java.util.zip.Inflater;

/**
 * Replays the golden images of a bundle: their pixels, and the models' answers where a runner is given.
 *
 * <p>javac -d /tmp/client *.java; java -cp /tmp/client SelfTest BUNDLE, exit code 1 on any deviation. On Android: new
 * SelfTest(reader, runner).wrong() is empty.
 */
public final class SelfTest {
  /** The content of a file of the bundle, by its name there. */
  public interface Reader {
    byte[] read(String name) throws IOException;
  }

  /** What a model (a .tflite of the bundle) answers to what it takes, see Bundle.input: its output as numbers. */
  public interface Runner {
    float[] run(String file, ByteBuffer input);
  }

  private final Reader reader;
  private final Runner runner;
  private final Bundle bundle;
  private final List<String> told = new ArrayList<>();
  private final List<String> wrong = new ArrayList<>();
  private int leftOut;

  /** @param runner null: no model is asked. */
  public SelfTest(Reader reader, Runner runner) throws IOException {
    this.reader = reader;
    this.runner = runner;
    this.bundle = Bundle.read(text("bundle.json"));
    checkFiles();
    StringBuilder labels = new StringBuilder();
    for (String label : bundle.labels) labels.append(label).append('\n');
    check("labels.txt", text("labels.txt").contentEquals(labels), "has the labels of bundle.json", "has others");
    checkGolden();
  }

  /** Every deviation, a sentence each. */
  public List<String> wrong() {
    return wrong;
  }

  /** How many things were not checked: the decoding of JPEGs, which are taken as the reference decoded them. */
  public int leftOut() {
    return leftOut;
  }

  /** Everything that was checked, or left out. */
  public List<String> told() {
    return told;
  }

  private String text(String name) throws IOException {
    return new String(reader.read(name), StandardCharsets.UTF_8);
  }

  private void check(String what, boolean holds, String good, String bad) {
    told.add((holds ? "ok     " : "WRONG  ") + what + ": " + (holds ? good : bad));
    if (!holds) wrong.add(what + ": " + bad);
  }

  private void checkFiles() throws IOException {
    Map<String, Object> files = Bundle.object(bundle.json.get("files"));
    for (Map.Entry<String, Object> file : files.entrySet()) {
      String name = file.getKey();
      if (!name.equals("labels.txt") && !name.startsWith("golden/")) continue;
      StringBuilder digest = new StringBuilder();
      try {
        for (byte one : MessageDigest.getInstance("SHA-256").digest(reader.read(name))) {
          digest.append(String.format("%02x", one));
        }
      } catch (NoSuchAlgorithmException error) {
        throw new IllegalStateException(error); // every Java has it
      }
      Object recorded = Bundle.object(file.getValue()).get("sha256");
      check(name, digest.toString().equals(recorded), "as exported", "is not the file that was exported");
    }
  }

  private void checkGolden() throws IOException {
    Map<String, Object> golden = Bundle.object(Bundle.parse(text("golden/golden.json")));
    Preprocess preprocess = bundle.preprocess();
    int allowed = (int) Bundle.number(golden.get("pixel_tolerance"));
    List<byte[]> pixels = new ArrayList<>();
    for (Object row : Bundle.list(golden.get("images"))) {
      String image = (String) Bundle.object(row).get("image");
      String decoded = (String) Bundle.object(row).get("decoded");
      byte[] expected = new Png(reader.read((String) Bundle.object(row).get("input"))).pixels;
      pixels.add(expected);
      Png png = new Png(reader.read(decoded == null ? image : decoded));
      Preprocess.Picture picture = Preprocess.Picture.of(png.pixels, png.width, png.height);
      if (decoded != null) {
        int scale = (int) Bundle.number(Bundle.object(row).get("scale"));
        List<Object> size = Bundle.list(Bundle.object(row).get("size"));
        int height = (int) Bundle.number(size.get(0));
        int width = (int) Bundle.number(size.get(1));
        picture.decodedAt(scale, width, height);
        boolean same = preprocess.jpegScale(width, height, 1) == scale;
        check(image, same, "decoded at 1/" + scale, "is decoded at another part of its size than 1/" + scale);
        told.add("-      " + image + ": left out, its decoding; its pixels are those of " + decoded);
        leftOut++;
      }
      checkPixels(decoded == null ? image : decoded, preprocess.apply(picture), expected, allowed);
    }
    if (runner == null) return;
    for (Object artefact : Bundle.list(bundle.json.get("artefacts"))) {
      String file = (String) Bundle.object(artefact).get("file");
      if (file.endsWith(".tflite")) checkAnswers(golden, file, pixels);
    }
  }

  private void checkPixels(String image, byte[] given, byte[] expected, int allowed) {
    int furthest = given.length == expected.length ? 0 : 255;
    int count = 0;
    for (int i = 0; i < Math.min(given.length, expected.length); i++) {
      int difference = Math.abs((given[i] & 0xFF) - (expected[i] & 0xFF));
      count += difference > 0 ? 1 : 0;
      furthest = Math.max(furthest, difference);
    }
    String far = count + " bytes differ, by up to " + furthest + " of 255 (allowed " + allowed + ")";
    check(image, furthest <= allowed, count == 0 ? "pixels identical" : far, far);
  }

  private void checkAnswers(Map<String, Object> golden, String file, List<byte[]> pixels) {
    int step = (int) Bundle.number(golden.get("step"));
    double allowed = Bundle.number(Bundle.object(golden.get("tolerances")).get(file));
    List<Object> rows = Bundle.list(Bundle.object(golden.get("expected")).get(file));
    double furthest = 0;
    for (int i = 0; i < pixels.size(); i++) {
      float[] answer = runner.run(file, bundle.input(file, pixels.get(i)));
      List<Object> expected = Bundle.list(rows.get(i));
      if ((answer.length + step - 1) / step != expected.size()) furthest = Double.POSITIVE_INFINITY;
      for (int k = 0; k * step < answer.length && k < expected.size(); k++) {
        double difference = Math.abs(answer[k * step] - Bundle.number(expected.get(k)));
        furthest = difference <= furthest ? furthest : difference; // NaN stays
      }
    }
    String far = "largest difference " + furthest + " (allowed " + allowed + ")";
    check(file, furthest <= allowed, far, far);
  }

  /** A PNG of 8 bits a channel, grey, RGB or RGBA, not interlaced, as Pillow writes it. */
  private static final class Png {
    final byte[] pixels;
    final int width;
    final int height;

    Png(byte[] content) throws IOException {
      Inflater inflater = new Inflater();
      byte[] packed = new byte[content.length];
      int length = 0;
      for (int at = 8; at + 12 <= content.length; at += 12 + word(content, at)) {
        if (content[at + 4] == 'I' && content[at + 5] == 'D') {
          System.arraycopy(content, at + 8, packed, length, word(content, at));
          length += word(content, at);
        }
      }
      int channels = content.length < 33 ? 0 : content[25] == 0 ? 1 : content[25] == 2 ? 3 : content[25] == 6 ? 4 : 0;
      if (channels == 0 || word(content, 0) != 0x89504E47 || content[24] != 8 || content[28] != 0) {
        throw new IOException("A golden image is no PNG of 8 bits a channel.");
      }
      width = word(content, 16);
      height = word(content, 20);
      int row = width * channels;
      byte[] raw = new byte[(row + 1) * height];
      inflater.setInput(packed, 0, length);
      try {
        if (inflater.inflate(raw) != raw.length) throw new IOException("A golden image is cut short.");
      } catch (DataFormatException error) {
        throw new IOException("A golden image is damaged.", error);
      } finally {
        inflater.end();
      }
      pixels = new byte[row * height];
      for (int place = 0; place < pixels.length; place++) {
        int x = place % row;
        int left = x < channels ? 0 : pixels[place - channels] & 0xFF;
        int above = place < row ? 0 : pixels[place - row] & 0xFF;
        int corner = x < channels || place < row ? 0 : pixels[place - row - channels] & 0xFF;
        int line = place / row * (row + 1);
        pixels[place] = (byte) (raw[line + 1 + x] + predicted(raw[line], left, above, corner));
      }
    }

    /** What PNG expects of a byte (ISO/IEC 15948, 9.2). */
    private static int predicted(int filter, int left, int above, int corner) {
      if (filter < 3) return filter == 0 ? 0 : filter == 1 ? left : above;
      if (filter == 3) return (left + above) / 2;
      int a = Math.abs(above - corner);
      int b = Math.abs(left - corner);
      int c = Math.abs(left + above - 2 * corner);
      return a <= b && a <= c ? left : b <= c ? above : corner;
    }

    private static int word(byte[] content, int at) {
      return (content[at] & 0xFF) << 24 | (content[at + 1] & 0xFF) << 16 | (content[at + 2] & 0xFF) << 8
          | content[at + 3] & 0xFF;
    }
  }

  public static void main(String[] arguments) {
    Path folder = Paths.get(arguments.length > 0 ? arguments[0] : ".");
    try {
      SelfTest test = new SelfTest(name -> Files.readAllBytes(folder.resolve(name)), null);
      for (String line : test.told()) System.out.println(line);
      String left = test.leftOut() == 0 ? "" : "; left out: " + test.leftOut();
      System.out.println((test.wrong().isEmpty() ? "passed" : "FAILED") + left);
      System.exit(test.wrong().isEmpty() ? 0 : 1);
    } catch (IOException | IllegalArgumentException error) {
      System.err.println("The self-test cannot be run: " + error.getMessage());
      System.exit(1);
    }
  }
}
