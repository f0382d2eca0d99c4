// OpenJDK's HttpClient as everybody makes it: with its defaults it offers HTTP/2 to http:// URLs.
// Usage: java Main.java URL. Each line that it prints is a name, a tab and what came.

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.net.http.WebSocket;
import java.io.ByteArrayInputStream;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

public class Main {
  static final String CHAT = "{\"messages\": [{\"role\": \"user\", \"content\": \"hello\"}]}";
  static final HttpClient client = HttpClient.newHttpClient();
  static String url;

  public static void main(String[] arguments) throws Exception {
    url = arguments[0];
    // Of known length, and in chunks; one after the other on one connection, and side by side.
    say("whole", post("/api/v1/sessions", BodyPublishers.ofString("{\"title\": \"whole\"}")));
    byte[] piece = "{\"title\": \"in chunks\"}".getBytes();
    say("chunked", post("/api/v1/sessions", BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(piece))));
    say("again", post("/api/v1/sessions", BodyPublishers.ofString("{\"title\": \"again\"}")));
    String large = "x".repeat(400_000);
    say("large", "" + post("/api/v1/sessions", BodyPublishers.ofString("{\"session_id\": \"a\", \"title\": \"" + large + "\"}")).length());
    say("answer", post("/api/v1/chat/completions", BodyPublishers.ofString(CHAT)));
    say("openai", post("/v1/chat/completions", BodyPublishers.ofString(CHAT)));
    var events = client.send(
        request("/api/v1/chat/completions/stream").POST(BodyPublishers.ofString(CHAT)).build(), BodyHandlers.ofLines());
    say("events", events.version() + " " + events.body().filter(line -> !line.isEmpty()).collect(Collectors.joining(" | ")));
    var head = client.send(
        request("/health/live").method("HEAD", BodyPublishers.noBody()).build(), BodyHandlers.ofString());
    say("head", head.statusCode() + " [" + head.body() + "]");
    say("socket", socket());
  }

  static HttpRequest.Builder request(String path) {
    return HttpRequest.newBuilder(URI.create(url + path)).timeout(Duration.ofSeconds(30)).header("Content-Type", "application/json");
  }

  static String post(String path, BodyPublisher body) throws Exception {
    return client.send(request(path).POST(body).build(), BodyHandlers.ofString()).body();
  }

  static String socket() throws Exception {
    var answer = new CompletableFuture<String>();
    var listener = new WebSocket.Listener() {
      @Override
      public CompletionStage<?> onText(WebSocket socket, CharSequence text, boolean last) {
        answer.complete(text.toString());
        return null;
      }
    };
    URI at = URI.create(url.replaceFirst("http", "ws") + "/api/v1/ws");
    WebSocket socket = client.newWebSocketBuilder().subprotocols("archer.v1").buildAsync(at, listener).get(30, TimeUnit.SECONDS);
    socket.sendText("{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"ping\"}", true);
    String said = answer.get(30, TimeUnit.SECONDS);
    socket.sendClose(WebSocket.NORMAL_CLOSURE, "").get(30, TimeUnit.SECONDS);
    return said;
  }

  static void say(String name, String value) {
    System.out.println(name + "\t" + value);
  }
}
